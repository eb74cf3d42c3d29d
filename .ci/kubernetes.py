"""Whether what deploy/ says to Kubernetes is what Kubernetes, Helm and mamparo take, and whether its parts agree.

    kubernetes.py kustomize FOLDER     builds every kustomization, validates it, compares the sidecars
    kubernetes.py inject FOLDER        validates what `mamparo inject` makes of tests/inject
    kubernetes.py chart FOLDER         renders and lints the chart with several values, and refuses bad ones
    kubernetes.py write                writes the copy of deploy/prometheus/rules.yaml as a PrometheusRule

MAMPARO is the program. FOLDER gets what was rendered, and `objects.json` with what is not Kubernetes' own.
"""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KUBERNETES = ROOT / "deploy/kubernetes"
DEPLOYMENT = ROOT / "tests/inject/deployment.yaml"
CHART = ROOT / "deploy/chart"
RULES = ROOT / "deploy/prometheus/rules.yaml"
RULE_COPY = KUBERNETES / "components/monitoring/prometheusrule.yaml"
# The oldest that native sidecars run on, and the first with the injection policy, or newer ones.
OLD, NEW = "1.29", "1.36"
# Objects that need more than the oldest.
SINCE_NEW = {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}
# What the sidecar may do with the API, where it may do anything.
DISCOVERY = [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}]
# What the Prometheus Operator names the target of a PodMonitor by.
TARGET_LABELS = {"job", "instance", "namespace", "pod", "container", "endpoint"}
# Checked by their own types, see kubernetes.mjs.
FOREIGN = {"PodMonitor", "PrometheusRule"}


class Wrong(Exception):
    """Something that must not be so."""


def holds(condition, message):
    """Fails with the message unless it is so."""
    if not condition:
        raise Wrong(message)


def yaml_of(text):
    """Every document of a text."""
    import yaml

    return [document for document in yaml.safe_load_all(text) if document is not None]


def built(folder):
    """What `kubectl kustomize` makes of a folder."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    holds(done.returncode == 0, f"{folder}: {done.stderr}")
    holds(not done.stderr.strip(), f"{folder}: kustomize warns: {done.stderr}")
    return done.stdout


def versions():
    """The oldest Kubernetes, the first with the injection policy, and the newest that can be validated for."""
    import kubernetes_validate

    def number(version):
        return tuple(int(part) for part in version.split(".")[:2])

    known = sorted(kubernetes_validate.utils.all_versions(), key=number)
    holds(number(known[-1]) >= number(NEW), f"the newest schema is that of {known[-1]}")
    return sorted({OLD, NEW, known[-1]}, key=number)


def validate(objects, where, foreign):
    """Against the schemas of Kubernetes; what it does not know goes to `foreign`."""
    import kubernetes_validate

    for one in objects:
        name = f"{where}: {one.get('kind')} {one.get('metadata', {}).get('name')}"
        if one.get("kind") in FOREIGN:
            foreign.append({"where": name, "object": one})
            continue
        for version in versions():
            if version == OLD and one["kind"] in SINCE_NEW:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    kubernetes_validate.validate(one, version, strict=True)
                except Exception as error:
                    raise Wrong(f"{name}, Kubernetes {version}: {error}") from error


def pods(objects):
    """The specs of the pods that the objects make."""
    for one in objects:
        spec = one.get("spec", {})
        if one["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if one["kind"] != "Pod":
            spec = spec.get("template", {}).get("spec") if isinstance(spec, dict) else None
        if isinstance(spec, dict) and "containers" in spec:
            yield one, spec


def containers(spec):
    """All of them."""
    return (spec.get("initContainers") or []) + spec["containers"]


def sidecar(spec):
    """The one of our name; there is exactly one."""
    ours = [one for one in containers(spec) if one["name"] == "mamparo"]
    holds(len(ours) == 1, f"{len(ours)} sidecars in a pod")
    return ours[0]


def restricted(objects, where):
    """The Pod Security level `restricted`, for every container but the one that redirects."""
    for one, spec in pods(objects):
        pod = spec.get("securityContext", {})
        for container in containers(spec):
            name = f"{where}: {one['kind']} {one['metadata']['name']}, container {container['name']}"
            own = container.get("securityContext", {})
            if container["name"] == "mamparo-redirect":
                holds(own["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}, f"{name}: {own}")
                continue
            holds(own.get("capabilities") == {"drop": ["ALL"]}, f"{name} keeps capabilities")
            holds(own.get("allowPrivilegeEscalation") is False, f"{name} may get more rights")
            holds(own.get("runAsNonRoot", pod.get("runAsNonRoot")) is True, f"{name} may run as root")
            seccomp = own.get("seccompProfile", pod.get("seccompProfile"))
            holds(seccomp == {"type": "RuntimeDefault"}, f"{name} has no seccomp profile")
            holds(own.get("readOnlyRootFilesystem") is True, f"{name} may write to its image")
            holds("memory" in container["resources"]["limits"], f"{name} has no memory limit")
            holds("cpu" not in container["resources"]["limits"], f"{name} has a CPU limit")


def lifecycle(objects, where):
    """There is time for all that happens at the end."""
    for one, spec in pods(objects):
        ours = sidecar(spec)
        grace = spec.get("terminationGracePeriodSeconds", 30)
        sleeps = {
            container["name"]: container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            for container in containers(spec)
        }
        name = f"{where}: {one['kind']} {one['metadata']['name']}"
        native = ours.get("restartPolicy") == "Always"
        holds(native == (ours in spec.get("initContainers", [])), f"{name}: {ours.get('restartPolicy')}")
        # A native one is told when the others have gone; a plain one must stay longer by itself.
        holds(native == (sleeps["mamparo"] == 0), f"{name}: preStop {sleeps}")
        drains = [
            seconds_of(config["runtime"]["drain"]) for config in configurations(objects) if "drain" in config["runtime"]
        ]
        longest = max(sleeps.values()) + max(drains, default=30)
        holds(grace > longest or one["kind"] == "Job", f"{name}: {grace} s for {longest} s")
        holds("subPath" not in json.dumps(ours), f"{name}: a subPath is never updated")


def agree(objects, where):
    """What one object says of another is so: whom a Service leads to, who has rights, what is scraped."""
    named = {(one["kind"], one["metadata"]["name"]) for one in objects}
    templates = [one["spec"]["template"] for one in objects if one["kind"] in ("Deployment", "Job")]
    ports = {
        name
        for _, spec in pods(objects)
        for container in containers(spec)
        for port in container.get("ports", [])
        for name in (port["name"], port["containerPort"])
    }
    listeners = [listener for config in configurations(objects) for listener in config["listeners"].values()]
    ports |= {
        int(listener["address"].rpartition(":")[2]) for listener in listeners if listener.get("role") == "inbound"
    }
    accounts = {spec.get("serviceAccountName", "default") for _, spec in pods(objects)}
    for one in objects:
        name = f"{where}: {one['kind']} {one['metadata']['name']}"
        if one["kind"] in ("Service", "PodDisruptionBudget"):
            selector = one["spec"]["selector"]
            selector = selector.get("matchLabels", selector).items()
            found = [template for template in templates if selector <= template["metadata"]["labels"].items()]
            holds(len(found) == 1, f"{name} selects {len(found)} workloads")
        for port in one["spec"]["ports"] if one["kind"] == "Service" else ():
            holds(port["targetPort"] in ports, f"{name} leads to {port['targetPort']}, which nobody has: {ports}")
        if one["kind"] == "Role":
            holds(one["rules"] == DISCOVERY, f"{name}: {one['rules']}")
        if one["kind"] == "RoleBinding":
            holds(("Role", one["roleRef"]["name"]) in named, f"{name}: there is no {one['roleRef']}")
            unknown = {subject["name"] for subject in one["subjects"]} - accounts
            holds(where.startswith("chart") or not unknown, f"{name}: nobody runs as {unknown}")


def seconds_of(duration):
    """Of a duration in whole seconds."""
    return int(re.fullmatch(r"(\d+)s", duration).group(1))


def configurations(objects):
    """What is in the ConfigMaps with a configuration; their files add to each other."""
    for one in objects:
        files = one.get("data", {}) if one["kind"] == "ConfigMap" else {}
        if "mamparo.yaml" in files:
            whole = {"runtime": {}, "listeners": {}}
            for text in files.values():
                for key, value in yaml_of(text)[0].items():
                    whole[key] = whole.get(key, {}) | value if isinstance(value, dict) else value
            yield whole


def check_configurations(objects, folder, where):
    """`mamparo check --strict` of every ConfigMap that has one."""
    number = 0
    for one in objects:
        data = one.get("data", {}) if one["kind"] == "ConfigMap" else {}
        if "mamparo.yaml" not in data:
            continue
        number += 1
        mounted = folder / f"config-{number}"
        mounted.mkdir(parents=True, exist_ok=True)
        for old in mounted.iterdir():
            old.unlink()
        for file, text in data.items():
            (mounted / file).write_text(text)
        environment = os.environ | {"MAMPARO_METRICS_ADDRESS": "0.0.0.0:9902"}
        command = [os.environ["MAMPARO"], "check", "--strict", mounted]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        holds(done.returncode == 0, f"{where}: {done.stdout}{done.stderr}")
    return number


# --- the injection policy, evaluated


def as_maps(expression):
    """CEL whose objects are maps: what is made is the same, and any evaluator of CEL can make it."""
    expression = re.sub(r"\b(?:Object(?:\.\w+)*|JSONPatch)\s*\{", "{", expression)
    return re.sub(r"(?<=[{,])(\s*)([A-Za-z_]\w*)\s*:(?!:)", r'\1"\2":', expression)


def check_types(expression):
    """An object's type is the path to it: `Object.spec.a{b: Object.spec.a.b{…}}`."""
    stack, key = [], None
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|(Object(?:\.\w+)*)?\s*\{|\}|\b(\w+)\s*:', expression):
        text = token.group(0)
        if text.endswith("{"):
            path = token.group(1)
            above = next((one for one in reversed(stack) if one), None)
            if path and above:
                holds(path == f"{above}.{key}", f"{path} stands at {above}.{key}")
            stack.append(path)
        elif text == "}":
            stack.pop()
        elif token.group(2):
            key = token.group(2)
    holds(not stack, "the braces of the expression do not match")


def evaluate(expression, values):
    """The value of an expression of CEL."""
    import celpy
    from celpy.adapter import json_to_cel

    environment = celpy.Environment()
    program = environment.program(environment.compile(expression))
    return native(program.evaluate({name: json_to_cel(value) for name, value in values.items()}))


def native(value):
    """A value of CEL as one of Python."""
    from celpy import celtypes

    if isinstance(value, dict):
        return {str(key): native(item) for key, item in value.items()}
    if isinstance(value, list):
        return [native(item) for item in value]
    for kind, plain in ((celtypes.BoolType, bool), (celtypes.IntType, int), (celtypes.StringType, str)):
        if isinstance(value, kind):
            return plain(value)
    raise Wrong(f"a value of {type(value).__name__}")


def patched(target, operations):
    """After a JSON patch of additions."""
    target = copy.deepcopy(target)
    for operation in operations:
        holds(operation["op"] == "add", f"{operation}")
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        place = target
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if not isinstance(place, list):
            place[last] = operation["value"]
        elif last == "-":
            place.append(operation["value"])
        else:
            place.insert(int(last), operation["value"])
    return target


def injected(policy, pod):
    """The pod after the policy; nothing where its conditions do not hold."""
    spec = policy["spec"]
    values = {"object": pod}
    for condition in spec["matchConditions"]:
        if not evaluate(condition["expression"], values):
            return None
    variables = {}
    for variable in spec["variables"]:
        variables[variable["name"]] = evaluate(variable["expression"], values | {"variables": variables})
    for mutation in spec["mutations"]:
        expression = mutation["jsonPatch"]["expression"]
        check_types(expression)
        pod = patched(pod, evaluate(as_maps(expression), values | {"variables": variables}))
    return pod


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "a"},
    "spec": {"containers": [{"name": "app", "image": "app:1"}]},
}


def policy_of(objects):
    """The injection policy. Kubernetes takes no list or map of CEL whose values are of several types."""
    policy = next(one for one in objects if one["kind"] == "MutatingAdmissionPolicy")
    for kind, quantities in sidecar(injected(policy, POD)["spec"])["resources"].items():
        holds(all(isinstance(value, str) for value in quantities.values()), f"{kind} of several types: {quantities}")
    return policy


def check_policy(objects, native, config_map="mamparo"):
    """The policy makes the same pod as the kustomization does, of any pod."""
    policy = policy_of(objects)
    pod = injected(policy, POD)
    same("the injection policy", sidecar(pod["spec"]), native)
    holds(pod["spec"]["volumes"] == [{"name": "mamparo", "configMap": {"name": config_map}}], f"{pod['spec']}")
    holds(pod["metadata"]["annotations"]["prometheus.io/scrape"] == "true", f"{pod['metadata']}")
    holds(injected(policy, pod) is None, "a pod with the sidecar gets another one")

    rich = copy.deepcopy(POD)
    rich["metadata"]["annotations"] = {
        "prometheus.io/scrape": "false",
        "mamparo.io/image": "other:2",
        "mamparo.io/config-map": "other",
    }
    rich["spec"] |= {"initContainers": [{"name": "first"}], "volumes": [{"name": "tmp", "emptyDir": {}}]}
    pod = injected(policy, rich)
    holds([one["name"] for one in pod["spec"]["initContainers"]] == ["mamparo", "first"], f"{pod['spec']}")
    holds([one["name"] for one in pod["spec"]["volumes"]] == ["tmp", "mamparo"], f"{pod['spec']}")
    holds(pod["spec"]["volumes"][1]["configMap"] == {"name": "other"}, f"{pod['spec']}")
    holds(sidecar(pod["spec"])["image"] == "other:2", f"{pod['spec']}")
    holds(pod["metadata"]["annotations"] == rich["metadata"]["annotations"], f"{pod['metadata']}")

    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    expected = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    holds(rule == expected, f"it is for {rule}")
    bindings = [one["spec"] for one in objects if one["kind"] == "MutatingAdmissionPolicyBinding"]
    holds({one["policyName"] for one in bindings} == {policy["metadata"]["name"]}, f"{bindings}")
    for namespace, label, expected in (
        (None, None, 0),
        (None, "true", 1),
        (None, "false", 0),
        ("true", None, 1),
        ("true", "true", 1),
        ("true", "false", 0),
        ("false", None, 0),
        ("false", "true", 1),
    ):
        found = [
            one
            for one in bindings
            if selects(one["matchResources"].get("namespaceSelector", {}), namespace)
            and selects(one["matchResources"].get("objectSelector", {}), label)
        ]
        asked = f"a namespace of {namespace} with a pod of {label}"
        holds(len(found) == expected, f"{asked} is bound {len(found)} times")

    shared = copy.deepcopy(POD)
    shared["spec"]["hostNetwork"] = True
    holds(injected(policy, shared) is None, "a pod in its node's network gets the sidecar")
    windows = copy.deepcopy(POD)
    windows["spec"]["os"] = {"name": "windows"}
    holds(injected(policy, windows) is None, "a pod of Windows gets the sidecar")
    plain = copy.deepcopy(POD)
    plain["spec"]["containers"].append({"name": "mamparo"})
    holds(injected(policy, plain) is None, "a pod with a plain sidecar gets another one")


def selects(selector, value):
    """Whether a selector takes what has this value of our label, or none."""
    label = "mamparo.io/inject"
    labels = {label} | set(selector.get("matchLabels", {}))
    labels |= {one["key"] for one in selector.get("matchExpressions", [])}
    holds(labels == {label}, f"it is selected by {labels}")
    taken = selector.get("matchLabels", {}).get(label, value) == value
    for one in selector.get("matchExpressions", []):
        taken = taken and {"In": value in one["values"], "NotIn": value not in one["values"]}[one["operator"]]
    return taken


def same(what, one, other):
    """Two sidecars are the same."""
    one, other = (json.dumps(value, indent=2, sort_keys=True) for value in (one, other))
    if one != other:
        import difflib

        difference = "\n".join(difflib.unified_diff(other.splitlines(), one.splitlines(), "native", what, lineterm=""))
        raise Wrong(f"the sidecar of {what} is another one than that of components/native:\n{difference}")


def check_plain(objects, where):
    """A plain sidecar is started first, and kubectl still shows the application's logs."""
    for one, spec in pods(objects):
        first, second, *_ = spec["containers"]
        holds(first["name"] == "mamparo", f"{where}: the sidecar is not the first container")
        start = first["lifecycle"]["postStart"]["exec"]["command"]
        holds(
            start == ["mamparo", "probe", "--admin", "127.0.0.1:9902", "--wait", "60s"],
            f"{where}: nothing holds the application back: {start}",
        )
        metadata = one["metadata"] if one["kind"] == "Pod" else one["spec"]["template"]["metadata"]
        shown = metadata["annotations"].get("kubectl.kubernetes.io/default-container")
        holds(shown == second["name"], f"{where}: kubectl shows {shown}")


def without(container, *keys):
    """But for some keys."""
    return {key: value for key, value in container.items() if key not in keys}


def program_image():
    """The image with the version of the program."""
    said = subprocess.run([os.environ["MAMPARO"], "--version"], capture_output=True, text=True, check=True).stdout
    return said.strip().replace(" ", ":")


def native_sidecar():
    """The one that all the others are compared with."""
    if shutil.which("kubectl"):
        text = built(KUBERNETES)
    else:
        command = [os.environ["MAMPARO"], "inject", "-f", DEPLOYMENT]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (_, spec), *_ = pods(yaml_of(text))
    holds(spec["initContainers"][0]["name"] == "mamparo", "the sidecar is not the first init container")
    ours = sidecar(spec)
    holds(ours["image"] == program_image(), f"the image is {ours['image']}")
    return ours


def kustomize(folder, foreign):
    """Every kustomization."""
    native = native_sidecar()
    overlays = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
    for name in ["", *overlays]:
        where = f"overlays/{name}" if name else "base"
        text = built(KUBERNETES / "overlays" / name if name else KUBERNETES)
        (folder / f"{name or 'base'}.yaml").write_text(text)
        objects = yaml_of(text)
        validate(objects, where, foreign)
        restricted(objects, where)
        lifecycle(objects, where)
        agree(objects, where)
        holds(check_configurations(objects, folder, where) == 1, f"{where} has no configuration")
        for _, spec in pods(objects):
            ours = copy.deepcopy(sidecar(spec))
            if name == "transparent":
                check_redirect(objects, ours, where)
                ours["securityContext"]["runAsGroup"] = native["securityContext"]["runAsGroup"]
            if name == "discovery":
                ours["volumeMounts"] = [one for one in ours["volumeMounts"] if one["name"] != "mamparo-token"]
                ours["env"] = [one for one in ours["env"] if one["name"] != "MAMPARO_ZONE"]
            if name == "plain":
                check_plain(objects, where)
                same(where, without(ours, "lifecycle"), without(native, "restartPolicy"))
            else:
                same(where, ours, native)
    grants = [one for one in yaml_of((folder / "base.yaml").read_text()) if "Role" in one["kind"]]
    holds(not grants, "the base grants rights")
    discovery = yaml_of((folder / "discovery.yaml").read_text())
    holds([one["kind"] for one in discovery].count("RoleBinding") == 1, "overlays/discovery grants nothing")
    (_, spec), *_ = pods(discovery)
    mounts = [(one["name"], mount["name"]) for one in containers(spec) for mount in one.get("volumeMounts", [])]
    holds([one for one, volume in mounts if "token" in volume] == ["mamparo"], f"who has a token: {mounts}")
    policy = yaml_of(built(KUBERNETES / "injection"))
    validate(policy, "injection", foreign)
    check_policy(policy, native)
    monitoring = yaml_of((folder / "monitoring.yaml").read_text())
    (rule,) = [one for one in monitoring if one["kind"] == "PrometheusRule"]
    check_rule(rule)
    (monitor,) = [one for one in monitoring if one["kind"] == "PodMonitor"]
    check_pod_monitor(monitor)
    dashboards = [one for one in monitoring if one["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
    check_dashboards(dashboards)
    print(f"{len(overlays) + 2} kustomizations for Kubernetes {', '.join(versions())}")


def check_redirect(objects, ours, where):
    """The rules leave out what the sidecar sends itself, and lead to its listener."""
    (rules,) = [one["data"]["rules"] for one in objects if "rules" in one.get("data", {})]
    group = re.findall(r"--gid-owner (\d+) -j RETURN", rules)
    holds(group == [str(ours["securityContext"]["runAsGroup"])], f"{where}: it redirects what it sends itself: {group}")
    (config,) = configurations(objects)
    listeners = [one["address"] for one in config["listeners"].values() if one.get("original_dst")]
    to = re.findall(r"-j REDIRECT --to-ports (\d+)", rules)
    holds([f"127.0.0.1:{port}" for port in to] == listeners, f"{where}: {to} is not {listeners}")
    if os.geteuid() == 0:
        # In a network of its own, from which nothing stays.
        command = ["unshare", "--net", "iptables-nft-restore", "--wait=5", "--noflush"]
        done = subprocess.run(command, input=rules, capture_output=True, text=True, check=False)
        holds(done.returncode == 0, f"{where}: {done.stderr}")


def check_rule(rule):
    """It says what rules.yaml does."""
    import yaml

    holds(rule["spec"] == yaml.safe_load(RULES.read_text()), f"{RULE_COPY} is old: run `.ci/deploy write_rules`")


def check_pod_monitor(monitor):
    """A label of a metric that is one of the target's, too, would be told under another name: it is dropped there."""
    rows = re.findall(r"^\| `mamparo_\w+` \| \w+ \|([^|]*)\|", (ROOT / "README.md").read_text(), re.MULTILINE)
    taken = TARGET_LABELS & {label for row in rows for label in re.findall(r"`(\w+)`", row)}
    holds(len(rows) > 25, "the README's table of metrics is not found")
    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
        holds((endpoint["port"], endpoint["path"]) == ("mamparo-metrics", "/metrics"), f"{endpoint}")
        dropped = {one["regex"] for one in endpoint.get("relabelings", []) if one["action"] == "labeldrop"}
        holds(taken <= dropped, f"the target's labels take the place of the metrics' {taken - dropped}")


def check_dashboards(config_maps):
    """Every dashboard is in them."""
    holds(len(config_maps) == 1, f"{len(config_maps)} ConfigMaps with dashboards")
    there = {path.name: path.read_text() for path in (ROOT / "deploy/grafana").glob("*.json")}
    holds(config_maps[0]["data"] == there, "the dashboards of the ConfigMap are not those of deploy/grafana")


def inject(folder, foreign):
    """What `mamparo inject` makes of the manifests in tests/inject, and of the service without a sidecar."""
    native = native_sidecar()
    files = sorted(path for path in (ROOT / "tests/inject").iterdir() if path.suffix in (".yaml", ".json"))
    bare = folder / "app.yaml"
    # Without kubectl, the service as one of the files has it.
    bare.write_text(built(KUBERNETES / "app") if shutil.which("kubectl") else DEPLOYMENT.read_text())
    number = 0
    for file in [*files, bare]:
        for mode in ("native", "plain"):
            command = [os.environ["MAMPARO"], "inject", "--mode", mode, "-f", file]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if mode == "plain" and "would never end" in done.stderr:
                continue
            holds(done.returncode == 0, f"{file}: {done.stderr}")
            (folder / f"{file.stem}-{mode}.yaml").write_text(done.stdout)
            objects = [item for one in yaml_of(done.stdout) for item in one.get("items", [one])]
            ours = [one for one in objects if one["kind"] not in ("Rollout", "Service", "ServiceAccount")]
            validate([one for one in objects if one["kind"] != "Rollout"], f"{file}, {mode}", foreign)
            for one, spec in pods(ours):
                if "false" in json.dumps(one["spec"].get("template", {}).get("metadata", {}).get("labels", {})):
                    continue
                number += 1
                container = sidecar(spec)
                if mode == "native":
                    same(f"{file}", container, native)
                else:
                    check_plain([one], f"{file}")
                    same(f"{file}", without(container, "lifecycle"), without(native, "restartPolicy"))
                holds({"name": "mamparo", "configMap": {"name": "mamparo"}} in spec["volumes"], f"{file}: {spec}")
    by_pipe = subprocess.run(
        [os.environ["MAMPARO"], "inject", "-f", "-"], capture_output=True, check=False, stdin=bare.open()
    )
    holds(by_pipe.stdout == (folder / "app-native.yaml").read_bytes(), "standard input makes something else")
    holds(b"deployment/orders injected\n" in by_pipe.stderr, f"it says {by_pipe.stderr}")
    bad = folder / "bad.yaml"
    bad.write_text("kind: Deployment\napiVersion: apps/v1\nspec: {}\n")
    refused = subprocess.run(
        [os.environ["MAMPARO"], "inject", "-f", bare, "-f", bad], capture_output=True, text=True, check=False
    )
    holds((refused.returncode, refused.stdout) == (2, ""), f"half of it is printed: {refused}")
    holds(refused.stderr.startswith(f"{bad}:3:7: "), f"no place is told: {refused.stderr}")
    print(f"{number} pods with the sidecar by `mamparo inject`")


def rendered(values):
    """What Helm makes of the chart for a release in the namespace `shop`."""
    import helm_python

    with helm_python.Chart.load(CHART) as loaded:
        loaded.validate_schema(values)
        files = loaded.render(values, name="mamparo", namespace="shop")
    notes = [text for name, text in files.items() if name.endswith("NOTES.txt")]
    holds(len(notes) == 1 and "<no value>" not in notes[0], f"the notes: {notes}")
    manifests = [text for name, text in sorted(files.items()) if name.endswith(".yaml") and text.strip()]
    holds("<no value>" not in "".join(manifests), "a template names a value that is not there")
    return "---\n".join(f"{text}\n" for text in manifests)


def lint(values, where):
    """What Helm itself says of the chart."""
    import helm_python

    report = helm_python.lint(CHART, values, strict=True, namespace="shop")
    told = [message for message in report["messages"] if message["severity"] > 1]
    holds(not told and not report["errors"], f"{where}: {report}")


def chart(folder, foreign):
    """The chart with each file of values in its ci folder, and with its defaults."""
    import yaml

    native = native_sidecar()
    for file in [None, *sorted((CHART / "ci").glob("*.yaml"))]:
        where = f"chart, {file.stem if file else 'defaults'}"
        values = yaml.safe_load(file.read_text()) if file else {}
        lint(values, where)
        text = rendered(values)
        (folder / f"chart-{file.stem if file else 'defaults'}.yaml").write_text(text)
        objects = yaml_of(text)
        validate(objects, where, foreign)
        restricted(objects, where)
        lifecycle(objects, where)
        agree(objects, where)
        check_configurations(objects, folder, where)
        for one in objects:
            if one["kind"] == "PrometheusRule":
                check_rule(one)
            if one["kind"] == "PodMonitor":
                check_pod_monitor(one)
        for _, spec in pods(objects):
            if file.stem == "standalone":
                ours = sidecar(spec)
                ours["ports"] = [port for port in ours["ports"] if port["name"] == "mamparo-metrics"]
                same(where, without(ours, "lifecycle"), without(native, "restartPolicy"))
        if file and file.stem == "injection":
            check_policy(objects, native)
        if file and file.stem == "everything":
            policy_of(objects)
            check_dashboards([one for one in objects if one["metadata"]["name"].endswith("-dashboards")])
            kinds = {one["kind"] for one in objects}
            holds(FOREIGN | SINCE_NEW | {"Role", "RoleBinding", "Service", "PodDisruptionBudget"} <= kinds, f"{kinds}")
    for bad, word in BAD_VALUES:
        try:
            rendered(bad)
        except Exception as error:
            holds(word in str(error), f"{bad} is refused with: {error}")
        else:
            raise Wrong(f"the chart takes {bad}")
    print(f"the chart with {len(list((CHART / 'ci').glob('*.yaml'))) + 1} sets of values, {len(BAD_VALUES)} refused")


BAD_VALUES = [
    ({"imaeg": {}}, "imaeg"),
    ({"image": {"repository": ""}}, "repository"),
    ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"sidecar": {"metricsPort": 70000}}, "metricsPort"),
    ({"sidecar": {"metricsPort": "http"}}, "metricsPort"),
    ({"sidecar": {"metricsHost": "::"}}, "metricsHost"),
    ({"injection": {"enabled": "yes"}}, "enabled"),
    ({"injection": {"failurePolicy": "Maybe"}}, "failurePolicy"),
    ({"configMap": {"name": "Not_A_Name"}}, "name"),
    ({"config": {"listeners": {}}}, "config"),
    ({"discovery": {"enabled": True, "serviceAccounts": []}}, "serviceAccounts"),
    ({"podMonitor": {"interval": "often"}}, "interval"),
    ({"standalone": {"enabled": True}}, "standalone needs `config`"),
    ({"standalone": {"pod": {"containers": []}}}, "containers"),
    ({"standalone": {"ports": [{"name": "Http!", "port": 80, "containerPort": 80}]}}, "ports"),
]


def write():
    """The copy of the rules."""
    head = (
        "# A copy of deploy/prometheus/rules.yaml, written by `.ci/deploy write_rules`; a test compares them.\n"
        "apiVersion: monitoring.coreos.com/v1\n"
        "kind: PrometheusRule\n"
        "metadata:\n"
        "  name: mamparo\n"
        "  labels:\n"
        "    app.kubernetes.io/name: mamparo\n"
        "spec:\n"
    )
    lines = [f"  {line}".rstrip() + "\n" for line in RULES.read_text().splitlines()]
    RULE_COPY.write_text(head + "".join(lines))


def main(what, *arguments):
    """Does what the command line says."""
    if what == "write":
        return write()
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    foreign = []
    {"kustomize": kustomize, "inject": inject, "chart": chart}[what](folder, foreign)
    (folder / "objects.json").write_text(json.dumps(foreign))
    return None


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Wrong as wrong:
        sys.exit(f"{wrong}")
