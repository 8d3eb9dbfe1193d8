"""What tells people to look: alert rules, dashboard and runbooks, held against each other and against the source."""

import json
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "verdict.rules.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "verdict.json"
RUNBOOKS = ROOT / "docs" / "runbooks"
METRICS = ROOT / "service" / "app" / "src" / "telemetry" / "metrics.rs"
COMMANDS = ROOT / "service" / "app" / "src" / "cli" / "mod.rs"
# Of Prometheus itself and of the blackbox exporter.
OTHERS = {"up", "probe_success"}
SECTIONS = ["Look", "Do", "Escalate"]
SUFFIXES = ["_bucket", "_sum", "_count"]


def alerts():
    """The text of every alert in the rules, by name."""
    parts = re.split(r"^ *- alert: (\S+)$", RULES.read_text(), flags=re.MULTILINE)
    names, texts = parts[1::2], parts[2::2]
    assert len(set(names)) == len(names), "an alert is there twice"
    return dict(zip(names, texts))


def panels():
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions():
    """Every query of the dashboard, with what Grafana puts in filled in."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [expr.replace("$__rate_interval", "5m").replace("$instance", ".*") for expr in found]


def shown():
    """The names under which /metrics shows what the source has."""
    tables = re.findall(r"^const (COUNTERS|GAUGES|HISTOGRAMS): .*?^\];$", METRICS.read_text(), re.MULTILINE | re.DOTALL)
    assert sorted(tables) == ["COUNTERS", "GAUGES", "HISTOGRAMS"], tables
    names = set()
    for table in re.finditer(r"^const (COUNTERS|GAUGES|HISTOGRAMS): .*?^\];$", METRICS.read_text(), re.MULTILINE | re.DOTALL):
        for name in re.findall(r'"(verdict_\w+)"', table[0]):
            names |= {name + suffix for suffix in SUFFIXES} if table[1] == "HISTOGRAMS" else {name}
    return names


def used(text):
    return set(re.findall(r"\bverdict_\w+", text))


def promtool(*words):
    program = shutil.which("promtool")
    assert program, "promtool is missing; install it with: sudo apt-get install --no-install-recommends prometheus"
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"promtool {' '.join(map(str, words))}:\n{done.stdout}{done.stderr}"
    return done.stdout


class Rules(unittest.TestCase):
    def test_promtool_takes_them(self):
        self.assertIn(f"{len(alerts())} rules found", promtool("check", "rules", RULES))
        promtool("check", "config", PROMETHEUS / "prometheus.yaml")

    def test_they_fire_when_they_should(self):
        promtool("test", "rules", PROMETHEUS / "verdict.rules.test.yaml")

    def test_every_alert_is_tested_to_fire(self):
        tests = (PROMETHEUS / "verdict.rules.test.yaml").read_text()
        self.assertEqual({name for name in alerts() if f'alertname="{name}", alertstate="firing"' not in tests}, set())

    def test_every_alert_says_what_it_means_and_where_to_read_on(self):
        for name, text in alerts().items():
            with self.subTest(name):
                self.assertRegex(text, r"labels: \{severity: (critical|warning)\}\n")
                self.assertRegex(text, r'summary: "[^"]+"\n')
                self.assertRegex(text, r'description: "[^"]+"\n')
                self.assertIn(f"runbook_url: docs/runbooks/{name}.md\n", text)

    def test_every_metric_is_one_of_the_source(self):
        self.assertGreater(len(used(RULES.read_text())), 10)
        self.assertEqual(used(RULES.read_text()) - shown(), set())
        self.assertEqual(used((PROMETHEUS / "verdict.rules.test.yaml").read_text()) - shown(), set())

    def test_reason_codes_are_those_of_the_source(self):
        codes = set(re.findall(r"\b[A-Z]+_?[A-Z]+\b", " ".join(re.findall(r'reason=~"([^"]+)"', RULES.read_text()))))
        sources = [*(ROOT / "service" / "app" / "src").rglob("*.rs"), *(ROOT / "service" / "core" / "src").rglob("*.rs")]
        source = "".join(path.read_text() for path in sources)
        self.assertGreater(len(codes), 3)
        self.assertEqual({code for code in codes if f'"{code}"' not in source}, set())


class Dashboard(unittest.TestCase):
    def test_every_metric_is_one_of_the_source_and_none_is_left_out(self):
        found = set().union(*map(used, expressions()))
        self.assertEqual(found - shown(), set())
        left_out = {name for name in shown() - found if not name.endswith("_seconds_sum") and not name.endswith("_seconds_count")}
        self.assertEqual(left_out, set())

    def test_every_query_is_understood(self):
        rules = [{"record": f"panel:{at}", "expr": expr} for at, expr in enumerate(expressions())]
        with tempfile.TemporaryDirectory() as folder:
            # JSON is YAML.
            path = Path(folder) / "rules.yaml"
            path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
            self.assertIn(f"{len(rules)} rules found", promtool("check", "rules", path))

    def test_panels_have_ids_of_their_own_and_do_not_overlap(self):
        everything = json.loads(DASHBOARD.read_text())["panels"]
        self.assertEqual(len({panel["id"] for panel in everything}), len(everything))
        taken = set()
        for place in (panel["gridPos"] for panel in everything):
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            self.assertLessEqual(place["x"] + place["w"], 24)
            self.assertEqual(cells & taken, set())
            taken |= cells


class Runbooks(unittest.TestCase):
    def pages(self):
        return {path.stem: path.read_text() for path in RUNBOOKS.glob("*.md") if path.name != "README.md"}

    def test_every_alert_has_its_page_and_every_page_its_alert(self):
        self.assertEqual(set(self.pages()), set(alerts()))
        listed = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|$", (RUNBOOKS / "README.md").read_text(), re.MULTILINE)
        severities = [(name, re.search(r"severity: (\w+)", text)[1]) for name, text in alerts().items()]
        self.assertEqual(listed, severities)

    def test_every_page_says_what_it_means_how_to_look_and_what_to_do(self):
        for name, text in self.pages().items():
            with self.subTest(name):
                self.assertRegex(text, rf"\A# {name}\n\n\S")
                self.assertEqual(re.findall(r"^## (.+)$", text, re.MULTILINE), SECTIONS)

    def test_links_lead_somewhere(self):
        for path in RUNBOOKS.glob("*.md"):
            for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
                self.assertTrue((RUNBOOKS / target).exists(), f"{path.name}: {target}")

    def test_commands_settings_and_metrics_exist(self):
        commands = {re.sub("(?<=.)([A-Z])", r"-\1", word).lower() for word in re.findall(r"^    ([A-Z]\w+)\(\w+::\w+Args\),$", COMMANDS.read_text(), re.MULTILINE)}
        self.assertIn("replay", commands)
        settings = (ROOT / "docs" / "verdict.example.toml").read_text()
        tables = {"http", "data", "actors", "decide", "rules", "model", "redis", "kafka", "postgres"}
        families = {re.sub("(_bucket|_sum|_count)$", "", name) for name in shown()} | shown()
        for name, text in self.pages().items() | {("README", (RUNBOOKS / "README.md").read_text())}:
            with self.subTest(name):
                self.assertEqual(set(re.findall(r"(?:`|^\$ )verdict ([a-z-]+)", text, re.MULTILINE)) - commands, set())
                # A stem, as in a pattern of grep, stands for whatever begins with it.
                self.assertEqual({word for word in used(text) if not any(found.startswith(word) for found in families)}, set())
                for table, key in re.findall(r"`(\w+)\.(\w+)[` ]", text):
                    if table in tables:
                        section = re.search(rf"^(?:# )?\[{table}\]\n(.*?)(?=^(?:# )?\[\w+\]|\Z)", settings, re.MULTILINE | re.DOTALL)
                        self.assertRegex(section[1], rf"(?m)^(# )?{key} = ")


if __name__ == "__main__":
    unittest.main()
