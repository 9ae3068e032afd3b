"""Files that are not the ones that were signed for, and downloads."""

from cases import case
from repository import CONTENT, ENDLESS_BYTES_MAX, ROLES, Endless, before, before_without_root


def newer(start):
    repository, device = start()
    device.accepts()
    repository.publish(*CONTENT)
    return repository, device


@case("snapshot", "targets")
def a_file_from_another_moment_is_refused(start, role):
    repository, device = newer(start)
    repository.files[f"2.{role}.json"] = repository.files[f"1.{role}.json"]
    device.refuses(*before_without_root(role))


@case("snapshot", "targets")
def a_file_with_another_version_than_its_name_is_refused(start, role):
    repository, device = start(digests=False)
    device.accepts()
    repository.publish(*CONTENT)
    repository.files[f"2.{role}.json"] = repository.files[f"1.{role}.json"]
    device.refuses(*before_without_root(role))


@case("snapshot", "targets")
def a_well_signed_file_with_other_bytes_than_named_is_refused(start, role):
    repository, device = newer(start)
    served = repository.files[f"2.{role}.json"]
    for other in [served + b" ", served.replace(b"{\n", b"{\t", 1)]:
        repository.files[f"2.{role}.json"] = other
        new = [name for name in before_without_root(role) if device.versions()[name] != 2]
        device.refuses(*new)
    repository.files[f"2.{role}.json"] = served
    device.accepts()


@case("snapshot", "targets")
def a_wrong_length_is_refused_whatever_the_hash(start, role):
    repository, device = start()
    device.accepts()

    def one_more(signed):
        (naming,) = signed["meta"].values()
        naming["length"] += 1

    names_it = {"snapshot": "timestamp", "targets": "snapshot"}[role]
    repository.publish(*CONTENT, edit={names_it: one_more})
    device.refuses(*before_without_root(role))


@case()
def a_snapshot_must_name_the_targets(start):
    repository, device = start()
    device.accepts()
    nothing = lambda signed: signed["meta"].clear()
    repository.publish(*CONTENT, edit={"snapshot": nothing})
    device.refuses("timestamp")


@case(*ROLES)
def an_endless_file_is_cut_off(start, role):
    repository, device = start(digests=role in ["root", "timestamp"])
    device.accepts()
    repository.publish()
    endless = Endless()
    repository.files[repository.name(role)] = endless
    device.alone("what it reads would be counted too")
    device.refuses(*before(role))
    assert endless.sent < ENDLESS_BYTES_MAX / 8, f"{endless.sent} bytes were read"


TARGET = b"what was signed for"


def with_target(start, path="digits/model.bin", **options):
    repository, device = start(**options.pop("repository", {}))
    repository.add_target(path, TARGET, **options)
    repository.publish()
    return repository, device


@case("file", "folder/file", "a folder/a space & more.txt", "../../../outside", "/absolute", "..")
def a_download_is_stored_as_signed_and_nowhere_else(start, path):
    repository, device = with_target(start, path)
    assert device.download(path)
    assert device.downloads() == [TARGET]


@case(sha256=["sha256"], sha512=["sha512"], both=["sha256", "sha512"])
def every_known_hash_is_checked(start, hashes):
    repository, device = with_target(start, hashes=hashes)
    assert device.download("digits/model.bin")
    for hash in hashes:
        target = repository.targets.targets["digits/model.bin"]
        right = target.hashes[hash]
        target.hashes[hash] = "0" * len(right)
        repository.replace_target("digits/model.bin", TARGET)
        repository.publish()
        assert not device.download("digits/model.bin")
        target.hashes[hash] = right


@case()
def a_target_whose_hashes_are_all_unknown_is_refused(start):
    repository, device = with_target(start)
    target = repository.targets.targets["digits/model.bin"]
    target.hashes = {"x-hash": target.hashes["sha256"]}
    repository.replace_target("digits/model.bin", TARGET)
    repository.publish()
    assert not device.download("digits/model.bin") and device.downloads() == []


@case(
    other_bytes=b"What was signed for",
    longer=TARGET + b"!",
    shorter=TARGET[:-1],
    empty=b"",
    missing=404,
    an_error=500,
)
def a_target_that_is_not_the_signed_one_is_refused(start, served):
    repository, device = with_target(start)
    repository.replace_target("digits/model.bin", served)
    assert not device.download("digits/model.bin") and device.downloads() == []
    repository.replace_target("digits/model.bin", TARGET)
    assert device.download("digits/model.bin") and device.downloads() == [TARGET]


@case()
def an_endless_target_is_cut_off(start):
    repository, device = with_target(start)
    endless = Endless()
    repository.replace_target("digits/model.bin", endless)
    assert not device.download("digits/model.bin") and device.downloads() == []
    assert endless.sent < ENDLESS_BYTES_MAX / 8, f"{endless.sent} bytes were read"


@case()
def a_download_refreshes_first(start):
    repository, device = with_target(start)
    assert not device.download("unknown")
    device.expect(root=2, timestamp=2, snapshot=2, targets=2)
    repository.files["timestamp.json"] = 404
    assert not device.download("digits/model.bin")
    assert not any(name.startswith("targets/") for name in device.asked)


@case()
def what_is_there_is_not_fetched_again(start):
    repository, device = with_target(start)
    assert device.download("digits/model.bin") and device.asked[-1].startswith("targets/")
    assert device.download("digits/model.bin")
    assert not any(name.startswith("targets/") for name in device.asked)


@case()
def a_changed_target_replaces_the_old_one_only_when_it_is_whole(start):
    repository, device = with_target(start)
    assert device.download("digits/model.bin")
    repository.add_target("digits/model.bin", b"the next one")
    repository.replace_target("digits/model.bin", b"another one!")
    repository.publish()
    assert not device.download("digits/model.bin") and device.downloads() == [TARGET]
    repository.replace_target("digits/model.bin", b"the next one")
    assert device.download("digits/model.bin") and device.downloads() == [b"the next one"]


@case()
def targets_are_fetched_in_order_up_to_the_first_that_fails(start):
    repository, device = start()
    for path in ["one", "two", "three"]:
        repository.add_target(path, path.encode())
    repository.publish()
    repository.replace_target("two", b"2")
    assert not device.download("one", "two", "three")
    assert device.downloads() == [b"one"]


@case()
def targets_have_plain_names_without_consistent_snapshots(start):
    repository, device = with_target(start, repository={"consistent": False})
    assert device.download("digits/model.bin")
    assert device.asked[-1] == "targets/digits/model.bin"
