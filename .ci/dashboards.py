"""Writes dashboards as TypeScript, so that the compiler can judge them by Grafana's own types.

    python3 .ci/dashboards.py FOLDER DASHBOARD.json...

Each dashboard becomes a module of FOLDER in which it, and the options and fields of each of its panels, are values of
those types: a field that is not there, or a word that is none of those allowed, is an error of the compiler.
"""

import json
import sys
from pathlib import Path

COMPOSABLE = "@grafana/schema/dist/esm/raw/composable"

# The kinds of panels that are in use, with the module that has their types, and whether their fields have any.
KINDS = {
    "heatmap": ("heatmap/panelcfg/x/HeatmapPanelCfg_types.gen", True),
    "stat": ("stat/panelcfg/x/StatPanelCfg_types.gen", False),
    "state-timeline": ("statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen", True),
    "table": ("table/panelcfg/x/TablePanelCfg_types.gen", True),
    "text": ("text/panelcfg/x/TextPanelCfg_types.gen", False),
    "timeseries": ("timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen", True),
}

HEAD = """import type { Dashboard } from "@grafana/schema";
%s

/** A type as JSON writes it: the words of an enumeration are strings. */
type Plain<T> = T extends string ? `${T}`
  : T extends number | boolean | null | undefined ? T
  : T extends (infer Item)[] ? Plain<Item>[]
  : T extends object ? { [Key in keyof T]: Plain<T[Key]> }
  : T;
"""

CONFIG = {
    "compilerOptions": {"strict": True, "noEmit": True, "skipLibCheck": True, "target": "es2022", "module": "esnext"}
    | {"moduleResolution": "bundler", "types": []},
    "include": ["*.ts"],
}


def module(dashboard):
    """The text of a dashboard's module."""
    imports = [
        f'import type * as {name(kind)} from "{COMPOSABLE}/{path}";' for kind, (path, _) in sorted(KINDS.items())
    ]
    text = [HEAD % "\n".join(imports), value("dashboard", "Plain<Dashboard>", dashboard)]
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        kind, number = name(panel["type"]), panel["id"]
        text.append(f"// {panel['title']}")
        text.append(value(f"options{number}", f"Plain<{kind}.Options>", panel["options"]))
        custom = panel.get("fieldConfig", {}).get("defaults", {}).get("custom")
        if custom is not None and KINDS[panel["type"]][1]:
            text.append(value(f"fields{number}", f"Plain<Partial<{kind}.FieldConfig>>", custom))
    return "\n".join(text)


def name(kind):
    """A kind of panel as a name in TypeScript."""
    return kind.title().replace("-", "")


def value(constant, of_type, content):
    """A constant of that type; JSON is TypeScript."""
    return f"export const {constant}: {of_type} = {json.dumps(content, indent=1)};\n"


def main(folder, dashboards):
    """Writes the modules, and what the compiler is told."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in dashboards:
        (folder / f"{path.stem}.ts").write_text(module(json.loads(path.read_text())))
    (folder / "tsconfig.json").write_text(json.dumps(CONFIG))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]])
