"""Writes dashboards as TypeScript, so that the compiler can judge them by Grafana's own types, and their queries as
rules, so that promtool can. Fails where a query, or one of deploy/prometheus/rules.yaml, names a metric that is none.

    dashboards.py FOLDER DASHBOARD.json...

Each dashboard becomes a module of FOLDER in which it, and the options and fields of each of its panels, are values of
those types: a field that is not there, or a word that is none of those allowed, is an error of the compiler. Every
query is in its queries.yaml.
"""

import json
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "deploy/prometheus/rules.yaml"

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


def metrics():
    """All there are: those of the README, which a test compares with the program, and those that rules record."""
    readme = (ROOT / "README.md").read_text()
    names = set(re.findall(r"`((?:mamparo|process)_\w+)`", readme))
    histograms = re.findall(r"^\| `(mamparo_\w+)` \| histogram \|", readme, re.MULTILINE)
    names |= {f"{name}_{suffix}" for name in histograms for suffix in ("bucket", "count", "sum")}
    return names | {rule["record"] for rule in rules() if "record" in rule}


def rules():
    """Those for Prometheus."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def unknown(texts):
    """The metrics in these queries that are none."""
    named = {name for text in texts for name in re.findall(r"[A-Za-z_:][\w:]*", text)}
    return {name for name in named if re.match(r"(\w+:)?mamparo[_:]|process_", name)} - metrics()


def queries(dashboard):
    """Every query of a dashboard, with where it stands; what Grafana fills in is filled in."""
    fills = {"__rate_interval": "1m", "__range": "1h", "__interval": "1m"}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expr = re.sub(r"\$\{?(\w+)\}?", lambda name: fills.get(name.group(1), ".*"), target["expr"])
            yield f"{dashboard['uid']}:{panel['id']}:{target['refId']}".replace("-", "_"), expr


def main(folder, dashboards):
    """Writes the modules, what the compiler is told, and the queries."""
    folder.mkdir(parents=True, exist_ok=True)
    boards = {path.stem: json.loads(path.read_text()) for path in dashboards}
    for name, board in boards.items():
        (folder / f"{name}.ts").write_text(module(board))
    (folder / "tsconfig.json").write_text(json.dumps(CONFIG))
    panels = [{"record": where, "expr": expr} for board in boards.values() for where, expr in queries(board)]
    (folder / "queries.yaml").write_text(json.dumps({"groups": [{"name": "panels", "rules": panels}]}))
    asked = [rule["expr"] for rule in panels + rules()]
    asked += [one["query"] for board in boards.values() for one in board["templating"]["list"]]
    if names := unknown(asked):
        sys.exit(f"there is no such metric: {', '.join(sorted(names))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]])
