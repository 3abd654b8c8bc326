"""Who made a bundle: signatures of OpenSSF Model Signing with a key, verified when a bundle is loaded.

    model_signing sign key --private_key k.pem --signature <name>/<version>.sig <name>/<version>

writes beside the folder a Sigstore bundle: a DSSE envelope around an in-toto statement that lists every file with its
SHA-256. It has to list exactly the files that were read, `manifest.json` among them, with the hashes they had when they
were read. Only this one form is taken, so `cryptography` does here what the library would bring fifteen packages for.

Source: model-signing 1.1 (signing), DSSE 1.0.2 (envelope): PAE(t, p) = "DSSEv1" ␣ |t| ␣ t ␣ |p| ␣ p.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from models.bundle import Bundle
from models.errors import BrokenBundle
from models.manifest import MANIFEST_FILE

PAYLOAD = "application/vnd.in-toto+json"
PREDICATE = "https://model_signing/signature/v1.0"
HASHES = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
END = b"-----END PUBLIC KEY-----"
LARGEST = 2**20

Signers = tuple[ec.EllipticCurvePublicKey, ...]


def signature_file(folder: Path) -> Path:
    """Where a bundle's signature is: beside its folder, whose files are all listed."""
    return folder.with_name(f"{folder.name}.sig")


def read_signers(path: Path) -> Signers:
    """The public keys of a PEM file; several while one follows another.

    Raises ValueError for a file without keys, or with other than those of P-256, P-384 and P-521; OSError.
    """
    parts = [part + END for part in path.read_bytes().split(END)[:-1]]
    try:
        keys = [load_pem_public_key(part.lstrip()) for part in parts]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("Expected public keys in PEM form, got something else.") from error
    found = tuple(key for key in keys if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size in HASHES)
    if not found or len(found) != len(keys):
        raise ValueError("Expected public keys of P-256, P-384 or P-521, got none or others.")
    return found


def verify(bundle: Bundle, folder: Path, signers: Signers) -> None:
    """Raises BrokenBundle unless one of `signers` has signed exactly these files."""
    file = signature_file(folder)
    try:
        with file.open("rb") as stream:
            raw = stream.read(LARGEST)
    except OSError as error:
        raise BrokenBundle(file.name, "a signature by a known key", "no signature") from error
    signed = _signed_files(_payload(file.name, raw, signers), file.name)
    listed: Mapping[str, Any] = bundle.manifest.document["files"]
    present = {name: str(facts["sha256"]) for name, facts in listed.items()}
    present[MANIFEST_FILE] = bundle.manifest.digest.removeprefix("sha256:")
    odd = sorted(name for name in signed.keys() | present.keys() if signed.get(name) != present.get(name))
    if odd:
        raise BrokenBundle(file.name, "a signature of the files that are there", f"one of others: {', '.join(odd)}")


def _payload(name: str, raw: bytes, signers: Signers) -> bytes:
    """What was signed, once it is known by whom."""
    try:
        envelope = json.loads(raw)["dsseEnvelope"]
        kind, payload = str(envelope["payloadType"]), base64.b64decode(envelope["payload"], validate=True)
        found = [base64.b64decode(item["sig"], validate=True) for item in envelope["signatures"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenBundle(name, "a signature by OpenSSF Model Signing", "unreadable text") from error
    message = b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(payload), payload)
    if kind != PAYLOAD or not any(_holds(key, one, message) for key in signers for one in found):
        raise BrokenBundle(name, "a signature by a known key", "one that none of them made")
    return payload


def _holds(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message, ec.ECDSA(HASHES[key.key_size]))
    except InvalidSignature:
        return False
    return True


def _signed_files(payload: bytes, name: str) -> dict[str, str]:
    try:
        statement = json.loads(payload)
        resources = statement["predicate"]["resources"]
        found = {str(item["name"]): str(item["digest"]) for item in resources if item["algorithm"] == "sha256"}
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenBundle(name, "a statement about files", "something else") from error
    if statement.get("predicateType") != PREDICATE or len(found) != len(resources):
        raise BrokenBundle(name, f"a statement {PREDICATE} with SHA-256 of each file", "another")
    return found
