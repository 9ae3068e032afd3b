"""Every way in which a signed message is tampered with, region by region."""

import cbor2

# The order of Ed25519's group: a signature plus this is the same one for careless verifiers.
ORDER = 2**252 + 27742317777372353535851937790883648493
PAYLOAD_FLIPS_MAX = 256
NO_KID = "empty kid"
OTHER_ALGS = [-19, -7, -35, -53, -257, 5]


def variants(data, stranger_kid):
    """Yields (region, tampered bytes). Nothing of it may verify for all of the signers."""
    tag = cbor2.loads(data)
    assert dump(tag.tag, tag.value) == data, "other bytes than every CBOR library's"
    signers = tag.value[3] if tag.tag == 98 else None

    def edited(*path_and_value):
        *path, value = path_and_value
        parts = cbor2.loads(data).value
        inner = parts
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        return dump(tag.tag, parts)

    payload = tag.value[2]
    for changed in bytes_changed(payload, PAYLOAD_FLIPS_MAX):
        yield "payload", edited(2, changed)
    yield "payload", edited(2, None)
    if signers is None:
        places = [([0], [1, 4], [3])]
    else:
        places = [([3, n, 0], [3, n, 1, 4], [3, n, 2]) for n in range(len(signers))]
        yield "protected header", edited(0, cbor2.dumps({1: -8}))
        yield "protected header", edited(0, cbor2.dumps({3: 0}))
        for n in range(len(signers)):
            yield "signature removed", edited(3, signers[:n] + signers[n + 1 :])
        yield "tag", dump(18, tag.value)
    for protected, kid, signature in places:
        for changed in bytes_changed(at(tag.value, protected), 64):
            yield "protected header", edited(*protected, changed)
        for changed in bytes_changed(at(tag.value, kid), 64):
            yield "kid" if changed else NO_KID, edited(*kid, changed)
        yield "kid", edited(*kid, stranger_kid)
        value = at(tag.value, signature)
        for changed in bytes_changed(value, 64):
            yield "signature", edited(*signature, changed)
        yield "signature", edited(*signature, plus_order(value))
        for alg in OTHER_ALGS:
            yield "algorithm", edited(*protected, cbor2.dumps({1: alg}))
    if signers is None:
        yield "tag", dump(98, tag.value)
    for one, other in zip(range(len(signers or [])), range(1, len(signers or []))):
        swapped = edited(3, one, 1, signers[other][1])
        parts = cbor2.loads(swapped).value
        parts[3][other][1] = signers[one][1]
        yield "kid", dump(98, parts)


def bytes_changed(value, flips_max):
    """Every byte changed (at most so many), one too few, one too many, none, all zero."""
    stride = -(-len(value) // flips_max)
    for index in range(0, len(value), max(stride, 1)):
        yield value[:index] + bytes([value[index] ^ 1]) + value[index + 1 :]
    yield value[:-1]
    yield value + b"\0"
    yield b""
    yield bytes(len(value))


def plus_order(signature):
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    return signature[:32] + scalar.to_bytes(32, "little")


def at(parts, path):
    for step in path:
        parts = parts[step]
    return parts


def dump(tag, parts):
    return cbor2.dumps(cbor2.CBORTag(tag, parts))
