"""The two independent COSE libraries behind one small face: verify all named signers, and sign.

A library that cannot do something says so by Unsupported; everything else that it raises is a
refusal.
"""

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cwt import COSE, COSEKey, Signer
from pycose.algorithms import EdDSA
from pycose.headers import KID, Algorithm
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
from pycose.messages import CoseMessage, Sign1Message, SignMessage
from pycose.messages.signer import CoseSignature

EDDSA, ED25519 = -8, -19


class Unsupported(Exception):
    """The library has no such thing."""


class Key:
    """An Ed25519 key from a seed of 32 equal bytes, like those of the Rust side."""

    def __init__(self, number):
        self.seed = bytes([number]) * 32
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        self.public = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.kid = kid(self.public)


def kid(public):
    """A key's name: the SHA-256 of its public bytes."""
    return hashlib.sha256(public).digest()


class Pycose:
    name = "pycose"

    def accepts(self, data, signers):
        keys = {kid(public): OKPKey(crv=Ed25519, x=public) for public in signers}
        message = CoseMessage.decode(data)
        parts = message.signers if isinstance(message, SignMessage) else [message]
        valid = set()
        for part in parts:
            part.key = keys.get(part.get_attr(KID))
            if part.key is not None and part.verify_signature():
                valid.add(part.get_attr(KID))
        return valid == set(keys)

    def sign1(self, payload, key, alg):
        message = Sign1Message({Algorithm: self._alg(alg)}, {KID: key.kid}, payload)
        message.key = OKPKey(crv=Ed25519, d=key.seed, x=key.public)
        return message.encode()

    def sign(self, payload, keys, alg):
        def signer(key):
            private = OKPKey(crv=Ed25519, d=key.seed, x=key.public)
            return CoseSignature({Algorithm: self._alg(alg)}, {KID: key.kid}, key=private)

        return SignMessage({}, {}, payload, [signer(key) for key in keys]).encode()

    @staticmethod
    def _alg(alg):
        if alg != EDDSA:
            raise Unsupported(f"algorithm {alg}")
        return EdDSA


class Cwt:
    name = "cwt"

    def accepts(self, data, signers):
        # One signer at a time: with several keys it is content with any of them.
        context = COSE.new(verify_kid=True)
        for public in signers:
            key = {1: 1, -1: 6, -2: public, 2: kid(public), 3: EDDSA}
            context.decode(data, keys=[COSEKey.new(key)])
        return True

    def sign1(self, payload, key, alg):
        context = COSE.new()
        protected, unprotected = {1: alg}, {4: key.kid}
        return context.encode(payload, self._private(key, alg), protected, unprotected)

    def sign(self, payload, keys, alg):
        signers = [Signer.new(self._private(k, alg), {1: alg}, {4: k.kid}) for k in keys]
        return COSE.new().encode(payload, signers=signers)

    @staticmethod
    def _private(key, alg):
        parts = {1: 1, -1: 6, -2: key.public, -4: key.seed, 2: key.kid, 3: alg}
        return COSEKey.new(parts)


LIBRARIES = [Pycose(), Cwt()]
