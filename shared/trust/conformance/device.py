"""The client under test, and python-tuf's own client as the second opinion."""

import json
import os
import subprocess

from tuf.ngclient import Updater

from repository import ROLES

# A client that does not come to an end is as wrong as one that trusts too much.
COMMAND_SECONDS_MAX = 60


class Wrong(AssertionError):
    """The client did not do what it should."""


class Device:
    """A device with its folders, whose trusted files can be looked at."""

    def __init__(self, program, server, repository, folder):
        self.program, self.server, self.repository = program, server, repository
        self.metadata = os.path.join(folder, "metadata")
        self.targets = os.path.join(folder, "targets")
        self.said = ""
        self.second = None
        root = os.path.join(folder, "first-root.json")
        with open(root, "wb") as file:
            file.write(repository.first_root)
        server.repository = repository
        os.mkdir(self.metadata)
        if not self.run("init", root):
            raise Wrong("init failed")
        self.second = Second(server, repository.first_root, os.path.join(folder, "second"))

    def alone(self, reason):
        """No second opinion, for this reason."""
        assert reason
        self.second = None

    def run(self, *arguments):
        command = [self.program, "--metadata-dir", self.metadata, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX)
        self.said = done.stderr.strip()
        if done.returncode not in (0, 1):
            raise Wrong(f"exit status {done.returncode}")
        return done.returncode == 0

    def refresh(self):
        self.repository.asked.clear()
        refreshed = self.run("--metadata-url", f"{self.server.url}/metadata/", "refresh")
        self.asked = list(self.repository.asked)
        return refreshed

    def download(self, *names):
        self.repository.asked.clear()
        options = ["--metadata-url", f"{self.server.url}/metadata/"]
        options += ["--target-base-url", f"{self.server.url}/targets", "--target-dir", self.targets]
        for name in names:
            options += ["--target-name", name]
        downloaded = self.run(*options, "download")
        self.asked = list(self.repository.asked)
        return downloaded

    def files(self):
        """What is trusted, byte for byte."""
        return contents(self.metadata)

    def downloads(self):
        """What was downloaded, sorted."""
        return sorted(contents(self.targets).values())

    def versions(self):
        trusted = self.files()
        version = lambda name: json.loads(trusted[name])["signed"]["version"]
        return {role: version(f"{role}.json") for role in ROLES if f"{role}.json" in trusted}

    def plant(self, role, data):
        """Puts a file where an earlier refresh may have left it."""
        with open(os.path.join(self.metadata, f"{role}.json"), "wb") as file:
            file.write(data)

    def accepts(self):
        """A refresh succeeds, and what is trusted then is what the server has, byte for byte."""
        if not self.refresh():
            raise Wrong("refused")
        for role, version in self.versions().items():
            name = self.repository.name(role, version)
            if self.files()[f"{role}.json"] != self.repository.files[name]:
                raise Wrong(f"the {role} that is stored is not {name} of the server")
        self.compare(True)

    def refuses(self, *learnt):
        """A refresh fails; of the trusted files exactly these roles' have changed."""
        before = self.files()
        if self.refresh():
            raise Wrong("accepted")
        after = self.files()
        names = before.keys() | after.keys()
        changed = sorted(name for name in names if before.get(name) != after.get(name))
        expected = sorted(f"{role}.json" for role in learnt)
        if changed != expected:
            raise Wrong(f"changed {changed} instead of {expected}")
        self.compare(False)

    def compare(self, verdict):
        if self.second and self.second.refresh() != verdict:
            raise Wrong(f"python-tuf does not agree: {self.second.said}")

    def expect(self, **versions):
        if self.versions() != versions:
            raise Wrong(f"trusts {self.versions()} instead of {versions}")


class Second:
    """python-tuf's client with a folder of its own, in step with the device."""

    def __init__(self, server, root, folder):
        self.url, self.folder, self.said = f"{server.url}/metadata/", folder, ""
        os.mkdir(folder)
        self.bootstrap = root

    def refresh(self):
        try:
            Updater(self.folder, self.url, bootstrap=self.bootstrap).refresh()
            self.said = "accepted"
            return True
        except Exception as error:
            self.said = f"refused: {error}"
            return False
        finally:
            self.bootstrap = None


def contents(folder):
    """The files of a folder by name. There are no folders in it: names of files are escaped."""
    if not os.path.isdir(folder):
        return {}
    files = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            files[name] = file.read()
    return files
