"""Whether what the files of deploy/ say of the program and of each other is so: commands to type, requests to send,
alerts, dashboards; the ports and times of the compose file and of the systemd unit.

    agreement.py        MAMPARO is the program
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
KINDS = {".yaml", ".json", ".md", ".txt", ".service"}
# `runtime.drain`, where a configuration does not say it.
DRAIN = 30

wrong = []


def holds(condition, message):
    """Keeps the message unless it is so."""
    if not condition:
        wrong.append(message)


def told(command):
    """What `--help` says of a command, or of the program; nothing where there is no such command."""
    line = [os.environ["MAMPARO"], *command, "--help"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def check_command(where, command, known):
    """A command as it is to be typed: the program has it, with these options."""
    name, *words = command.split()
    known.setdefault(name, told([name]))
    holds(known[name], f"{where}: there is no `mamparo {name}`")
    for word in words:
        option = word.split("=")[0].strip("[],")
        if re.match(r"--?[a-z]", option):
            holds(re.search(rf"(?<![\w-]){option}\b", known[name]), f"{where}: `mamparo {name}` has no {option}")


def check_words(files):
    """What is written for whoever types it."""
    rules = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    titles = {json.loads(path.read_text())["title"] for path in (DEPLOY / "grafana").glob("*.json")}
    readme = (ROOT / "README.md").read_text()
    requests = {unnamed(request) for request in re.findall(r"^\| `((?:GET|POST|PUT) /[^`]*)` \|", readme, re.MULTILINE)}
    known, commands = {}, 0
    for path in files:
        text, where = re.sub(r"\s+", " ", path.read_text()), path.relative_to(ROOT)
        for command in re.findall(r"`(?:kubectl exec [^`]*-- )?mamparo ([^`|]+)", text):
            commands += 1
            check_command(where, command.rstrip("\\"), known)
        for request in re.findall(r"`?((?:GET|POST|PUT) /[\w/.-]*(?:\{\{[^}]*\}\}[\w/.-]*)*)", text):
            holds(unnamed(request.rstrip(".")) in requests, f"{where}: nobody answers {request}")
        for alert in set(re.findall(r"\bMamparo[A-Z]\w+", text)) - alerts:
            wrong.append(f"{where}: there is no alert {alert}")
        for title in set(re.findall(r'(?<!\\)"(mamparo: [a-z ]+)"', text)) - titles:
            wrong.append(f"{where}: there is no dashboard {title}")
    holds(commands > 20, f"only {commands} commands were found")
    return commands


def unnamed(request):
    """A request without the names of what may be anything."""
    return re.sub(r"\{+[^}]*\}+", "{}", request)


def seconds(text):
    """Of a duration in seconds."""
    return int(re.fullmatch(r"(\d+)s", text).group(1))


def check_compose():
    """What is published is listened to, who is called is there, and there is time to drain."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    config = yaml.safe_load((DEPLOY / "compose/mamparo.yaml").read_text())
    ours = services["mamparo"]
    listens = {one["address"] for one in config["listeners"].values()} | {ours["environment"]["MAMPARO_ADMIN_ADDRESS"]}
    published = {f"0.0.0.0:{one.rpartition(':')[2]}" for one in ours["ports"]}
    holds(published == listens, f"deploy/compose.yaml publishes {published}, and {listens} are listened to")
    called = {one.partition(":")[0] for upstream in config["upstreams"].values() for one in upstream["endpoints"]}
    holds(called <= services.keys(), f"deploy/compose.yaml has none of {called - services.keys()}")
    drain = seconds(config.get("runtime", {}).get("drain", f"{DRAIN}s"))
    holds(seconds(ours["stop_grace_period"]) > drain, f"deploy/compose.yaml gives no {drain} s to drain")


def check_inhibition():
    """An alert silences only others of what it is about itself."""
    config = yaml.safe_load((DEPLOY / "alertmanager/alertmanager.yaml").read_text())
    for rule in config["inhibit_rules"]:
        holds(rule["equal"] == config["route"]["group_by"], f"an alert silences those of another {rule['equal']}")


def check_unit():
    """It runs what there is, has time to drain, and does not start anew what is wrong."""
    settings = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "systemd/mamparo.service").read_text(), re.MULTILINE))
    check_command("deploy/systemd/mamparo.service", settings["ExecStart"].partition("/mamparo ")[2], {})
    holds(seconds(settings["TimeoutStopSec"]) > DRAIN, "the unit gives no time to drain")
    line = [os.environ["MAMPARO"], "run", "--config", "/nonexistent"]
    status = subprocess.run(line, capture_output=True, check=False).returncode
    holds(settings["RestartPreventExitStatus"] == str(status), f"a wrong configuration ends with {status}")


def main():
    """Says all that is wrong."""
    files = [path for path in sorted(DEPLOY.rglob("*")) if path.suffix in KINDS and path.is_file()]
    commands = check_words(files)
    check_compose()
    check_inhibition()
    check_unit()
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{commands} commands in {len(files)} files")


if __name__ == "__main__":
    main()
