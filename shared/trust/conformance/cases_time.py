"""Expiry, versions that go back, and the way out of a fast-forward attack."""

from cases import case
from repository import CONTENT, FUTURE, PAST, before_without_root, new_key


@case("timestamp", "snapshot", "targets")
def an_expired_file_is_refused_and_what_is_held_stays(start, role):
    repository, device = start()
    device.accepts()
    getattr(repository, role).expires = PAST
    repository.publish(*CONTENT)
    device.refuses(*before_without_root(role))
    getattr(repository, role).expires = FUTURE
    repository.publish(*CONTENT)
    device.accepts()


@case("timestamp", "snapshot", "targets")
def a_held_file_that_expired_meanwhile_is_no_longer_enough(start, role):
    repository, device = start()
    getattr(repository, role).expires = PAST
    repository.publish(*CONTENT)
    device.alone("its folder is left as it is")
    for held in CONTENT:
        device.plant(held, repository.files[repository.name(held)])
    device.refuses()
    getattr(repository, role).expires = FUTURE
    repository.publish(*CONTENT)
    device.accepts()


@case("timestamp", "snapshot", "targets")
def a_version_that_goes_back_is_refused(start, role):
    repository, device = start()
    repository.publish()
    device.accepts()
    getattr(repository, role).version = 0
    repository.publish(*CONTENT)
    device.refuses(*{"timestamp": [], "snapshot": [], "targets": ["timestamp"]}[role])
    device.expect(root=2, timestamp=3 if role == "targets" else 2, snapshot=2, targets=2)


@case()
def a_timestamp_with_a_known_version_changes_nothing(start):
    repository, device = start()
    device.accepts()
    before = device.files()
    repository.snapshot.version = 100
    repository.put("snapshot")
    repository.put("timestamp")
    assert device.refresh() and device.files() == before
    assert device.asked == ["2.root.json", "timestamp.json"]
    device.compare(True)


def fast_forwarded(start, role):
    """Whoever had the online keys signed a version far ahead, and the device believed it."""
    repository, device = start()
    getattr(repository, role).version = 2**31
    repository.publish(*CONTENT)
    device.accepts()
    getattr(repository, role).version = 1
    return repository, device


# Which keys are replaced to get out: those of the role that names the version.
@case("timestamp timestamp", "snapshot timestamp", "targets snapshot")
def new_keys_end_a_fast_forward_attack(start, roles):
    forwarded, replaced = roles.split()
    repository, device = fast_forwarded(start, forwarded)
    repository.give_keys(replaced, [new_key()])
    repository.publish()
    device.accepts()
    assert device.versions()[forwarded] == 2


@case("timestamp", "snapshot", "targets")
def without_new_keys_a_version_far_ahead_stays(start, role):
    repository, device = fast_forwarded(start, role)
    repository.publish(*CONTENT)
    device.refuses(*["timestamp"] if role == "targets" else [])


@case()
def a_key_that_joins_opens_no_way_back(start):
    repository, device = start()
    old = repository.files["timestamp.json"]
    repository.publish()
    device.accepts()
    repository.root.add_key(new_key().public_key, "timestamp")
    repository.publish("root")
    repository.files["timestamp.json"] = old
    device.refuses("root")
    device.expect(root=3, timestamp=2, snapshot=2, targets=2)


@case("timestamp", "snapshot")
def what_a_key_that_left_signed_is_deleted_at_once(start, role):
    repository, device = start()
    device.accepts()
    repository.give_keys(role, [new_key()])
    repository.publish("root")
    repository.files["timestamp.json"] = 404
    # Both go, whichever key left: they belong together.
    device.refuses("root", "timestamp", "snapshot")
    device.expect(root=2, targets=1)


@case()
def after_a_new_snapshot_key_the_timestamp_starts_afresh_too(start):
    repository, device = fast_forwarded(start, "timestamp")
    device.alone("it keeps a timestamp whose own key stays")
    repository.give_keys("snapshot", [new_key()])
    repository.publish("root", "snapshot", "timestamp")
    device.accepts()
    device.expect(root=2, timestamp=2, snapshot=3, targets=2)


@case()
def files_of_keys_that_left_are_not_trusted_even_after_a_restart(start):
    repository, device = start()
    device.accepts()
    held = device.files()
    repository.give_keys("timestamp", [new_key()])
    repository.publish("root", "timestamp")
    # The power went after the new root was stored and before the old files were deleted.
    device.alone("its power did not go")
    repository.timestamp.version = 1
    repository.put("timestamp")
    assert device.refresh()
    for role in ["timestamp", "snapshot"]:
        device.plant(role, held[f"{role}.json"])
    device.accepts()
    device.expect(root=2, timestamp=1, snapshot=1, targets=1)
