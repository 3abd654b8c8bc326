"""A bundle signed with OpenSSF's own tool is loaded; one unsigned, signed by others or changed since is not."""

import base64
import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from models import bundle
from models.errors import BrokenBundle
from models.repository import SHIPPED, Repository
from models.runtime import RuntimeOptions
from models.signature import read_signers, signature_file, verify
from tests.conftest import add_version
from tests.signing import pem, sign, write_keys


@pytest.fixture(scope="module")
def signed(tmp_path_factory) -> tuple[Path, Path]:
    """(a signed bundle, the public key)."""
    root = tmp_path_factory.mktemp("signed")
    folder = root / "zoo" / "site_weather" / "1"
    shutil.copytree(max(SHIPPED.glob("site_weather/*")), folder)
    private, public = write_keys(root / "keys")
    sign(folder, private)
    return folder, public


@pytest.fixture
def copied(signed, tmp_path) -> tuple[Path, Path]:
    zoo, public = tmp_path / "zoo", signed[1]
    shutil.copytree(signed[0].parent.parent, zoo)
    return zoo / "site_weather" / "1", public


def check(folder: Path, public: Path) -> None:
    verify(bundle.read(folder), folder, read_signers(public))


def test_what_the_library_signs_is_accepted_here(signed):
    check(*signed)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_other_curves_of_the_library_are_too(copied, tmp_path, curve):
    private, public = write_keys(tmp_path / "others", curve)
    sign(copied[0], private)
    check(copied[0], public)


def test_one_of_several_signers_is_enough_and_a_stranger_is_not(copied, tmp_path):
    _, stranger = write_keys(tmp_path / "stranger")
    with pytest.raises(BrokenBundle, match="none of them made"):
        check(copied[0], stranger)
    stranger.write_bytes(stranger.read_bytes() + copied[1].read_bytes())
    check(copied[0], stranger)


def test_an_unsigned_bundle_is_refused(copied):
    signature_file(copied[0]).unlink()
    with pytest.raises(BrokenBundle, match=r"1\.sig: .*no signature"):
        check(*copied)


def test_a_bundle_that_was_rewritten_with_right_hashes_is_refused(copied):
    """Whoever changes a file can change the manifest's hash of it, but not the signature."""
    add_version(copied[0], "1", title="Another")
    with pytest.raises(BrokenBundle, match=r"one of others: manifest\.json"):
        check(*copied)


def test_a_signature_of_another_bundle_is_refused(copied):
    other = add_version(copied[0], "2")
    shutil.copy(signature_file(copied[0]), signature_file(other))
    with pytest.raises(BrokenBundle, match=r"manifest\.json"):
        check(other, copied[1])


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"dsseEnvelope": {"payload": "?", "signatures": []}}', "\xff"])
def test_garbage_is_no_signature(copied, text):
    signature_file(copied[0]).write_text(text, encoding="latin-1")
    with pytest.raises(BrokenBundle, match="unreadable text"):
        check(*copied)


@pytest.mark.parametrize("change", ["payload", "payloadType", "signatures"])
def test_every_part_of_the_envelope_counts(copied, change):
    file = signature_file(copied[0])
    document = json.loads(file.read_text())
    envelope = document["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    changed = {
        "payload": base64.b64encode(payload + b" ").decode(), "payloadType": "text/plain", "signatures": [],
    }  # fmt: skip
    envelope[change] = changed[change]
    file.write_text(json.dumps(document))
    with pytest.raises(BrokenBundle, match="none of them made"):
        check(*copied)


def test_the_repository_serves_signed_bundles_only_and_says_why(copied):
    folder, public = copied
    add_version(folder, "2")
    repository = Repository(folder.parent.parent, RuntimeOptions(), signers=read_signers(public))
    assert list(repository.versions("site_weather")) == ["1"]
    assert "no signature" in repository.broken["site_weather/2"]
    shutil.copy(signature_file(folder), signature_file(folder.with_name("2")))
    repository.refresh()
    assert "one of others" in repository.broken["site_weather/2"], "a signature that comes later is looked at"


def test_keys_that_cannot_sign_bundles_are_refused(tmp_path):
    key = tmp_path / "key.pem"
    for content in (b"", b"nonsense", pem(rsa.generate_private_key(65537, 2048).public_key())):
        key.write_bytes(content)
        with pytest.raises(ValueError, match="Expected public keys"):
            read_signers(key)
