"""A TUF repository made with python-tuf, which can be made to lie, and its web server."""

import datetime
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

ROLES = ["root", "timestamp", "snapshot", "targets"]
# Each names the one before it, so this is the order of signing.
SIGNING_ORDER = ["root", "targets", "snapshot", "timestamp"]
# What changes without a new root.
CONTENT = ["targets", "snapshot", "timestamp"]
NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
FUTURE, PAST = NOW + datetime.timedelta(days=30), NOW - datetime.timedelta(days=1)

# An endless file ends here, so that a client that reads on is told from one that hangs up.
ENDLESS_BYTES_MAX = 256 * 1024 * 1024

def before(role):
    """The roles that a client has refreshed before this one."""
    return ROLES[: ROLES.index(role)]

def before_without_root(role):
    """The same where the root is no newer."""
    return [name for name in before(role) if name != "root"]

def new_key(kind="ecdsa"):
    return CryptoSigner.generate_ed25519() if kind == "ed25519" else CryptoSigner.generate_ecdsa()

def sealed(signed, signers):
    """The signed file of a dictionary, signed by these in this order."""
    canonical = encode_canonical(signed).encode()
    signatures = [signer.sign(canonical).to_dict() for signer in signers]
    return {"signatures": signatures, "signed": signed}

def encoded(document):
    return json.dumps(document, indent=1).encode()

class Endless:
    """A file that never ends. Counts what was sent of it."""

    def __init__(self):
        self.sent = 0

class Repository:
    """`files` is what the server has: bytes, the status of an error, or something Endless."""

    def __init__(self, kinds=("ecdsa",), consistent=True, digests=True):
        self.files, self.targets_files, self.asked = {}, {}, []
        self.consistent, self.digests = consistent, digests
        self.root = Root(expires=FUTURE, consistent_snapshot=consistent)
        self.timestamp = Timestamp(expires=FUTURE)
        self.snapshot = Snapshot(expires=FUTURE)
        self.targets = Targets(expires=FUTURE)
        self.signers = {}
        for index, role in enumerate(ROLES):
            self.give_keys(role, [new_key(kinds[index % len(kinds)])])
        for role in SIGNING_ORDER:
            self.put(role)
        self.first_root = self.files["1.root.json"]

    def give_keys(self, role, signers, threshold=1):
        """Replaces the role's keys, in the root that is signed next."""
        for old in list(self.root.roles[role].keyids):
            self.root.revoke_key(old, role)
        for signer in signers:
            self.root.add_key(signer.public_key, role)
        self.root.roles[role].threshold = threshold
        self.signers[role] = list(signers)

    def put(self, role, edit=None, after=None, name=None):
        """Signs a role's metadata as it stands and puts it on the server.

        `edit` changes the dictionary before it is signed, `after` the signed document."""
        metadata = getattr(self, role)
        signed = metadata.to_dict()
        if edit:
            edit(signed)
        document = sealed(signed, self.signers[role])
        if after:
            after(document)
        data = encoded(document)
        self.files[name or self.name(role)] = data
        if role == "targets":
            self.snapshot.meta["targets.json"] = self.naming(metadata.version, data)
        if role == "snapshot":
            self.timestamp.snapshot_meta = self.naming(metadata.version, data)

    def publish(self, *roles, edit=None, after=None):
        """The next version of these roles, of all four if none is named.

        `edit` and `after` have the functions for `put` by role."""
        for role in SIGNING_ORDER:
            if role in (roles or ROLES):
                getattr(self, role).version += 1
                self.put(role, (edit or {}).get(role), (after or {}).get(role))

    def name(self, role, version=None):
        if role == "timestamp" or (role != "root" and not self.consistent):
            return f"{role}.json"
        return f"{version or getattr(self, role).version}.{role}.json"

    def naming(self, version, data):
        if not self.digests:
            return MetaFile(version)
        return MetaFile.from_data(version, data, ["sha256"])

    def add_target(self, path, content, hashes=("sha256",)):
        """Signs for a target with the next publish, and puts it on the server at once."""
        target = TargetFile.from_data(path, content, list(hashes))
        self.targets.targets[path] = target
        for served in self.target_names(path, target):
            self.targets_files[served] = content
        return target

    def target_names(self, path, target):
        folder, slash, last = path.rpartition("/")
        if not self.consistent:
            return [path]
        return [f"{folder}{slash}{digest}.{last}" for digest in target.hashes.values()]

    def replace_target(self, path, content):
        """Serves something else than what was signed for."""
        for served in self.target_names(path, self.targets.targets[path]):
            self.targets_files[served] = content

class Server:
    """Serves one repository after the other on a free port of the loopback."""

    def __init__(self):
        self.repository = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, request):
        kind, _, name = request.path.lstrip("/").partition("/")
        name = unquote(name)
        repository = self.repository
        repository.asked.append(name if kind == "metadata" else f"{kind}/{name}")
        files = repository.files if kind == "metadata" else repository.targets_files
        file = files.get(name, 404)
        if isinstance(file, int):
            return request.send_error(file)
        request.send_response(200)
        if isinstance(file, Endless):
            request.end_headers()
            return endless(request, file)
        request.send_header("Content-Length", str(len(file)))
        request.end_headers()
        request.wfile.write(file)

def endless(request, file):
    chunk = b" " * 65536
    try:
        while file.sent < ENDLESS_BYTES_MAX:
            request.wfile.write(chunk)
            file.sent += len(chunk)
    except OSError:
        pass  # It hung up, as it should.
