"""The servers of this machine: up and down, set-up that starts nothing, and the topics that are named twice."""

import contextlib
import io
import json
import subprocess
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from servers import Trouble, local, process, provision, topics, wire

COMPOSE = provision.ROOT / "deploy" / "compose.yaml"


def quietly(command, folder):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        command(folder)
    return said.getvalue()


def known(folder):
    return json.loads((folder / "servers.json").read_text())


def query(url, statement):
    command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--quiet", url, "--command", statement]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class UpAndDown(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        Path(holder.name).chmod(0o711)
        self.folder = Path(holder.name) / "servers"
        self.addCleanup(quietly, local.down, self.folder)

    def config(self):
        return tomllib.loads((self.folder / "verdict.toml").read_text())

    def test_up_twice_is_harmless_and_down_keeps_the_data(self):
        said = quietly(local.up, self.folder)
        config = self.config()
        for table, key in local.CONFIG:
            self.assertIn(config[table][key], said)
        self.assertEqual((self.folder / "verdict.toml").stat().st_mode & 0o777, 0o600)
        query(config["postgres"]["url"], "CREATE TABLE kept AS SELECT 7 AS id")
        port = int(config["kafka"]["bootstrap_servers"].rpartition(":")[2])
        self.assertEqual(wire.metadata(port)[1]["verdict.journal"], topics.PARTITIONS)
        wire.create_topics(port, [("gone-soon", 1, {})])
        self.assertTrue(process.wait_until(lambda: "gone-soon" in wire.metadata(port)[1], 30))
        wire.delete_topics(port, ["gone-soon", "never-there"])
        self.assertTrue(process.wait_until(lambda: "gone-soon" not in wire.metadata(port)[1], 30))

        before = known(self.folder)
        self.assertEqual(quietly(local.up, self.folder), said)
        self.assertEqual(known(self.folder), before)

        quietly(local.down, self.folder)
        self.assertEqual([process.stat(one["pid"]) for one in before.values()], [None] * 3)
        self.assertEqual(quietly(local.down, self.folder), "")

        self.assertEqual(quietly(local.up, self.folder), said)
        self.assertEqual(self.config(), config)
        self.assertEqual(query(config["postgres"]["url"], "SELECT id FROM kept"), "7")


class OnlyItsOwnProcess(unittest.TestCase):
    def test_a_process_that_came_to_have_the_id_is_not_signalled(self):
        other = subprocess.Popen(["sleep", "60"])
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        started = process.stat(other.pid)[2]
        server = process.Server("/nowhere", {"pid": other.pid, "started": started - 1})
        self.assertFalse(server.is_running())
        server.stop()
        self.assertIsNone(other.poll())
        self.assertTrue(process.Server("/nowhere", {"pid": other.pid, "started": started}).is_running())


class SetUp(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.policy = Path(holder.name) / "policy-rc.d"
        saved = self.policy.with_name("saved")
        patched = mock.patch.multiple(provision, POLICY=self.policy, POLICY_SAVED=saved)
        patched.start()
        self.addCleanup(patched.stop)

    def test_packages_may_start_nothing_and_then_as_before(self):
        for own in [None, "#!/bin/sh\nexit 0\n"]:
            if own:
                self.policy.write_text(own)
            with contextlib.suppress(Trouble), provision.no_services_started():
                self.assertEqual(subprocess.run([self.policy], check=False).returncode, 101)
                raise Trouble("the installation failed")
            self.assertEqual(self.policy.read_text() if self.policy.exists() else None, own)

    def test_a_set_up_that_was_killed_is_cleaned_up_after(self):
        self.policy.write_text("the machine's own")
        killed = provision.no_services_started()
        killed.__enter__()
        provision.restore_policy()
        self.assertEqual(self.policy.read_text(), "the machine's own")

    def test_what_is_missing_is_named_with_the_command_that_installs_it(self):
        with mock.patch.object(provision.os, "geteuid", return_value=1000), self.assertRaises(Trouble) as raised:
            provision.install(["redis-server"])
        self.assertIn("sudo apt-get install --no-install-recommends redis-server", str(raised.exception))


class Compose(unittest.TestCase):
    def test_it_makes_the_same_topics(self):
        made = {}
        for line in COMPOSE.read_text().splitlines():
            if line.strip().startswith("make_topic "):
                name, *settings = line.split()[1:]
                made[name] = dict(setting.split("=") for setting in settings)
        wanted = {name: {key: str(value) for key, value in found.items()} for name, found in topics.SETTINGS.items()}
        self.assertEqual(made, wanted)
        self.assertIn(f"--partitions {topics.PARTITIONS} ", COMPOSE.read_text())


if __name__ == "__main__":
    unittest.main()
