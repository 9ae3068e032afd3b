"""Roots, thresholds and signatures."""

from cases import case
from repository import CONTENT, FUTURE, PAST, ROLES, before, before_without_root, new_key


def rotate(repository, signers, keys, threshold):
    """The next root, with these keys and signed by those."""
    repository.give_keys("root", keys, threshold)
    repository.signers["root"] = signers
    repository.publish("root")


@case()
def a_chain_of_roots_is_walked_link_by_link(start):
    repository, device = start()
    held = repository.signers["root"]
    for _ in range(5):
        new = [new_key(), new_key("ed25519")]
        rotate(repository, held + new, new, 2)
        held = new
    device.accepts()
    device.expect(root=6, timestamp=1, snapshot=1, targets=1)
    assert device.asked[:6] == [f"{version}.root.json" for version in range(2, 8)]


# Who signs the next root when {a, b, c} with 2 of 3 becomes {b, c, d} with 2 of 3 or 3 of 3.
@case("ab", "ad", "cd", "a", "d", "bc:3", "ab:3", "bb", "")
def a_root_needs_both_thresholds(start, signed):
    signed, _, threshold = signed.partition(":")
    keys = {name: new_key() for name in "abcd"}
    repository, device = start()
    pick = lambda names: [keys[name] for name in names]
    rotate(repository, repository.signers["root"] + pick("abc"), pick("abc"), 2)
    device.accepts()
    rotate(repository, pick(signed), pick("bcd"), int(threshold or 2))
    device.refuses()
    device.expect(root=2, timestamp=1, snapshot=1, targets=1)


@case("bc", "abd", "bcd:3", "dcba")
def both_thresholds_are_enough(start, signed):
    signed, _, threshold = signed.partition(":")
    keys = {name: new_key() for name in "abcd"}
    repository, device = start()
    pick = lambda names: [keys[name] for name in names]
    rotate(repository, repository.signers["root"] + pick("abc"), pick("abc"), 2)
    rotate(repository, pick(signed), pick("bcd"), int(threshold or 2))
    device.accepts()
    device.expect(root=3, timestamp=1, snapshot=1, targets=1)


@case()
def a_lower_threshold_is_for_the_root_after_it(start):
    keys = [new_key(), new_key()]
    repository, device = start()
    rotate(repository, repository.signers["root"] + keys, keys, 2)
    device.accepts()
    rotate(repository, keys[:1], keys, 1)
    device.refuses()
    repository.signers["root"] = keys
    repository.put("root")
    repository.signers["root"] = keys[1:]
    repository.publish("root")
    device.accepts()
    device.expect(root=4, timestamp=1, snapshot=1, targets=1)


@case(1, 3)
def a_root_that_is_not_the_next_is_refused(start, version):
    repository, device = start()
    device.accepts()
    repository.root.version = version
    repository.put("root", name="2.root.json")
    device.refuses()


@case()
def only_the_last_root_may_not_be_expired(start):
    repository, device = start()
    repository.root.expires = PAST
    repository.publish("root")
    repository.publish("root")
    device.refuses("root")
    device.expect(root=3)
    repository.root.expires = FUTURE
    repository.publish("root")
    device.accepts()
    device.expect(root=4, timestamp=1, snapshot=1, targets=1)


@case("timestamp", "snapshot", "targets")
def a_role_needs_its_threshold(start, role):
    repository, device = start()
    keys = [new_key() for _ in range(3)]
    repository.give_keys(role, keys, 2)
    repository.publish()
    device.accepts()
    for signers in [keys[:1], [keys[0], new_key()], []]:
        repository.signers[role] = signers
        repository.publish(*CONTENT)
        device.refuses(*before_without_root(role))
    repository.signers[role] = keys[1:]
    repository.publish(*CONTENT)
    device.accepts()


@case("timestamp", "snapshot", "targets")
def keys_of_another_role_sign_nothing(start, role):
    repository, device = start()
    device.accepts()
    others = [name for name in ROLES if name != role]
    repository.signers[role] = [repository.signers[name][0] for name in others]
    repository.publish(*CONTENT)
    device.refuses(*before_without_root(role))


@case("timestamp", "snapshot", "targets")
def one_key_does_not_count_twice(start, role):
    repository, device = start()
    keys = [new_key(), new_key()]
    repository.give_keys(role, keys, 2)
    repository.signers[role] = keys[:1]
    twice = lambda document: document["signatures"].append(document["signatures"][0])
    repository.publish(after={role: twice})
    device.refuses(*before(role))


@case("timestamp", "snapshot", "targets")
def two_signatures_in_the_name_of_one_key_are_refused(start, role):
    repository, device = start()
    device.accepts()
    twice = lambda document: document["signatures"].append(document["signatures"][0])
    repository.publish(*CONTENT, after={role: twice})
    device.refuses(*before_without_root(role))


@case()
def a_key_under_two_names_does_not_count_twice(start):
    repository, device = start()
    device.alone("it counts names of keys, not keys")
    key = repository.signers["timestamp"][0]

    def alias(signed):
        signed["keys"]["a" * 64] = signed["keys"][key.public_key.keyid]
        signed["roles"]["timestamp"] = {
            "keyids": [key.public_key.keyid, "a" * 64],
            "threshold": 2,
        }

    repository.publish("root", edit={"root": alias})
    again = lambda document: document["signatures"].append(
        {**document["signatures"][0], "keyid": "a" * 64}
    )
    repository.publish("timestamp", after={"timestamp": again})
    device.refuses()


@case()
def a_role_that_names_a_key_twice_does_not_count_it_twice(start):
    repository, device = start()
    key = repository.signers["timestamp"][0].public_key.keyid
    double = lambda signed: signed["roles"]["timestamp"].update(keyids=[key, key], threshold=2)
    repository.publish("root", edit={"root": double})
    device.refuses()


@case("empty", "no number", "another signature", "cut short")
def a_bad_signature_beside_enough_good_ones_does_no_harm(start, kind):
    repository, device = start()
    keys = [new_key(), new_key("ed25519"), new_key()]
    repository.give_keys("timestamp", keys, 2)
    repository.publish()

    def spoil(document):
        first, second, _ = document["signatures"]
        first["sig"] = {
            "empty": "",
            "no number": "xyz",
            "another signature": second["sig"],
            "cut short": first["sig"][:20],
        }[kind]

    repository.put("timestamp", after=spoil)
    device.accepts()


@case()
def a_threshold_that_cannot_be_met_shuts_the_role(start):
    repository, device = start()
    repository.root.roles["timestamp"].threshold = 2
    repository.publish("root")
    device.refuses("root")
    repository.root.roles["timestamp"].threshold = 1
    repository.publish("root")
    device.accepts()


@case()
def a_threshold_of_zero_is_refused(start):
    repository, device = start()
    zero = lambda signed: signed["roles"]["targets"].update(threshold=0)
    repository.publish("root", edit={"root": zero})
    device.refuses()


@case()
def a_role_with_a_key_that_is_not_listed_is_refused(start):
    repository, device = start()
    device.alone("it finds out when it needs the key")
    unlisted = lambda signed: signed["roles"]["targets"]["keyids"].append("b" * 64)
    repository.publish("root", edit={"root": unlisted})
    device.refuses()


@case()
def metadata_of_one_role_is_none_of_another(start):
    repository, device = start()
    key = repository.signers["timestamp"][0]
    repository.root.add_key(key.public_key, "snapshot")
    repository.signers["snapshot"] = [key]
    repository.publish()
    naming = {"snapshot.json": {"version": 1}}
    as_timestamp = lambda signed: signed["meta"].update(naming)
    repository.snapshot.version += 1
    repository.put("snapshot", edit=as_timestamp, name="timestamp.json")
    device.refuses("root")


@case(
    another_specification=("spec_version", "2.0.0"),
    no_version=("version", None),
    version_zero=("version", 0),
    version_as_text=("version", "2"),
    negative_version=("version", -2),
    no_expiry=("expires", None),
    a_date_without_a_zone=("expires", "2999-01-01T00:00:00"),
    no_day_of_the_calendar=("expires", "2999-02-30T00:00:00Z"),
)
def signed_nonsense_is_refused_as_well(start, field):
    repository, device = start()
    device.accepts()
    name, value = field

    def spoil(signed):
        signed[name] = value
        if value is None:
            del signed[name]

    repository.publish("timestamp", edit={"timestamp": spoil})
    device.refuses()


@case(
    nothing=b"",
    an_empty_object=b"{}",
    an_array=b"[]",
    null=b"null",
    no_text=b"\xff\xfe",
    deep=b"[" * 5000,
    unsigned_emptiness=b'{"signatures": [], "signed": {}}',
)
def what_is_no_metadata_is_refused(start, data):
    repository, device = start()
    device.accepts()
    repository.files["timestamp.json"] = data
    device.refuses()


@case()
def fractions_have_no_canonical_form(start):
    repository, device = start()
    device.accepts()
    fraction = lambda document: document["signed"].update({"x-fraction": 0.5})
    repository.publish("timestamp", after={"timestamp": fraction})
    device.refuses()
