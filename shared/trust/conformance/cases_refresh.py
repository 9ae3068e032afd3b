"""Honest repositories, missing files, and what a client keeps of them."""

from cases import case
from repository import ROLES, before, new_key


@case("ecdsa", "ed25519", "both")
def a_first_refresh_fetches_every_file_once(start, kind):
    repository, device = start(kinds=("ecdsa", "ed25519") if kind == "both" else (kind,))
    device.accepts()
    device.expect(root=1, timestamp=1, snapshot=1, targets=1)
    assert device.asked == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]


@case()
def a_second_refresh_fetches_only_what_may_be_new(start):
    repository, device = start()
    device.accepts()
    device.accepts()
    assert device.asked == ["2.root.json", "timestamp.json"]
    repository.publish("timestamp")
    device.accepts()
    assert device.asked == ["2.root.json", "timestamp.json"]
    repository.publish("snapshot", "timestamp")
    device.accepts()
    assert device.asked == ["2.root.json", "timestamp.json", "2.snapshot.json"]
    repository.publish()
    device.accepts()
    device.expect(root=2, timestamp=4, snapshot=3, targets=2)


@case()
def versions_may_leave_gaps(start):
    repository, device = start()
    for version in [7, 8, 100]:
        for role in ["timestamp", "snapshot", "targets"]:
            getattr(repository, role).version = version
        repository.publish("timestamp", "snapshot", "targets")
        device.accepts()
    device.expect(root=1, timestamp=101, snapshot=101, targets=101)


@case()
def a_repository_without_consistent_snapshots_has_plain_names(start):
    repository, device = start(consistent=False)
    repository.publish()
    device.accepts()
    assert device.asked[-3:] == ["timestamp.json", "snapshot.json", "targets.json"]


@case()
def lengths_and_hashes_may_be_left_out(start):
    repository, device = start(digests=False)
    repository.publish()
    device.accepts()
    device.expect(root=2, timestamp=2, snapshot=2, targets=2)


@case()
def what_tuf_does_not_define_is_signed_and_otherwise_ignored(start):
    repository, device = start()
    repository.root.unrecognized_fields["x-note"] = {"é": ["\n", 1, True, None]}
    repository.root.roles["root"].unrecognized_fields["x-owner"] = "alice"
    repository.targets.unrecognized_fields["x-note"] = "\\ and \" and \u0001"
    repository.publish()
    device.accepts()
    device.expect(root=2, timestamp=2, snapshot=2, targets=2)


@case()
def a_key_of_an_unknown_kind_beside_others_does_no_harm(start):
    repository, device = start()
    device.alone("it refuses a root with a key that it cannot read")
    stranger = new_key()
    stranger.public_key.keytype = stranger.public_key.scheme = "x-unheard-of"
    repository.root.add_key(stranger.public_key, "snapshot")
    repository.publish()
    device.accepts()
    repository.signers["snapshot"] = [stranger]
    repository.publish("snapshot", "timestamp")
    device.refuses("timestamp")


@case(*ROLES)
def an_unknown_field_that_was_not_signed_is_noticed(start, role):
    repository, device = start()
    add = lambda document: document["signed"].update({"x-added": 1})
    repository.publish(after={role: add})
    device.refuses(*before(role))


@case("timestamp", "snapshot", "targets")
def a_missing_file_fails_and_what_was_learnt_before_stays(start, role):
    repository, device = start()
    device.accepts()
    repository.publish()
    name = repository.name(role)
    file, repository.files[name] = repository.files[name], 404
    device.refuses(*before(role))
    repository.files[name] = file
    device.accepts()


@case(*ROLES)
def a_server_error_is_no_missing_file(start, role):
    repository, device = start()
    device.accepts()
    repository.publish()
    repository.files[repository.name(role)] = 500
    device.refuses(*before(role))


@case()
def a_first_root_that_nobody_signed_is_never_used(start):
    repository, device = start()
    device.alone("it does not take a root from its folder on a first start")
    device.plant("root", repository.first_root.replace(b'"version": 1', b'"version": 2'))
    device.refuses()
    assert device.asked == []


@case("timestamp", "snapshot", "targets")
def a_damaged_file_of_ours_is_fetched_anew(start, role):
    repository, device = start()
    device.accepts()
    device.alone("its folder is not damaged")
    for damage in [b"", b"{", device.files()[f"{role}.json"].replace(b'"version"', b'"Version"')]:
        device.plant(role, damage)
        device.accepts()
        device.expect(root=1, timestamp=1, snapshot=1, targets=1)
