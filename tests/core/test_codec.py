"""Checksums, hashes, encryption and compression against published vectors and independent implementations."""

import errno
import threading

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from vexfs._core import codec

KEY = bytes(range(32))


def crc32c_bitwise(data: bytes, crc: int = 0) -> int:
    """The definition, one bit at a time."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "want"),  # RFC 3720, B.4
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_crc32c_published(data, want):
    assert codec.crc32c(data) == want
    assert codec.crc32c_table(data) == want


@pytest.mark.parametrize("n", [1, 7, 8, 767, 768, 769, 1535, 1536, 12287, 12288, 12289, 25000, 131072])
def test_crc32c_hardware_equals_table(n):
    data = codec.random(n + 7)
    for skip in range(8):
        piece = memoryview(data)[skip : skip + n]
        assert codec.crc32c(piece, 0xDEADBEEF) == codec.crc32c_table(piece, 0xDEADBEEF)


@given(st.binary(max_size=3000), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=50, deadline=None)
def test_crc32c_definition_and_chaining(data, crc, draw):
    want = crc32c_bitwise(data, crc)
    assert codec.crc32c(data, crc) == want
    cut = draw.draw(st.integers(0, len(data)))
    assert codec.crc32c(data[cut:], codec.crc32c(data[:cut], crc)) == want


def test_siphash_published():
    """The first, the fifteenth and the last of the vectors of the reference implementation."""
    key = bytes(range(16))
    assert codec.siphash(key, b"") == 0x726FDB47DD0E0E31
    assert codec.siphash(key, bytes(range(15))) == 0xA129CA6149BE45E5
    assert codec.siphash(key, bytes(range(63))) == 0x958A324CEB064572
    with pytest.raises(ValueError, match="16 bytes, not 3"):
        codec.siphash(b"abc", b"")


def test_slots_of_names():
    key, names = bytes(range(16)), [b"a", b"of \xff bytes", b"", b"..", b"a/b"]
    slots = np.empty(len(names), np.uint64)
    codec.first_slots(key, names, slots)
    assert [codec.first_slot(key, name) for name in names[:2]] == slots[:2].tolist() and not slots[2:].any()
    assert codec.first_slot(key, bytes(range(15))) == 0xA129CA6149BE45E5 & 0x3FFFFFFFFFFFFFFC
    with pytest.raises(ValueError, match="16 bytes, not 3"):
        codec.first_slot(b"abc", b"a")


@given(st.binary(max_size=500), st.binary(max_size=100), st.binary(min_size=12, max_size=12))
@settings(max_examples=50, deadline=None)
def test_aead_is_aes_256_gcm(data, ad, nonce):
    ours, theirs = codec.Aead(KEY), AESGCM(KEY)
    sealed = ours.seal(nonce, data, ad)
    assert sealed == theirs.encrypt(nonce, data, ad)
    assert ours.open(nonce, sealed, ad) == data


def test_aead_refuses_every_changed_bit():
    aead, nonce = codec.Aead(KEY), bytes(12)
    sealed = aead.seal(nonce, b"seventeen letters", b"place")
    for bit in range(len(sealed) * 8):
        bad = bytearray(sealed)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(OSError) as caught:
            aead.open(nonce, bytes(bad), b"place")
        assert caught.value.errno == errno.EBADMSG
    for args in [(b"\1" * 12, sealed, b"place"), (nonce, sealed, b"elsewhere"), (nonce, sealed[:10], b"place")]:
        with pytest.raises(OSError):
            aead.open(*args)
    assert aead.open(nonce, sealed, b"place") == b"seventeen letters"  # a failure leaves the context usable


def test_aead_from_many_threads():
    aead, failures = codec.Aead(KEY), []

    def work(seed: int) -> None:
        for i in range(200):
            nonce = seed.to_bytes(4, "little") + i.to_bytes(8, "little")
            data = nonce * 400
            if aead.open(nonce, aead.seal(nonce, data)) != data:
                failures.append((seed, i))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("number", [0, 1, 255, 256, 2**64 - 1])
def test_hkdf_is_rfc_5869(number):
    info = b"segment" + number.to_bytes(8, "little")
    assert codec.hkdf(KEY, "segment", number) == HKDF(SHA256(), 32, None, info).derive(KEY)


def test_hkdf_refuses_a_label_it_cannot_hold():
    with pytest.raises(OSError) as caught:
        codec.hkdf(KEY, "x" * 120, 0)
    assert caught.value.errno == errno.EINVAL


@given(st.binary(max_size=4000), st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_lz4_round_trip(data, repeat):
    data *= repeat
    packed = codec.lz4(data)
    if data:
        assert codec.unlz4(packed, len(data)) == data
        for wrong in {len(data) - 1, len(data) + 1} - {0}:
            with pytest.raises(OSError):
                codec.unlz4(packed, wrong)


@given(st.binary(max_size=300), st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_lz4_garbage_never_crashes(data, n):
    try:
        assert len(codec.unlz4(data, n)) == n
    except OSError as err:
        assert err.errno == errno.EBADMSG


def test_lz4_says_when_it_does_not_fit():
    noise = codec.random(1000)
    assert codec.lz4(noise, cap=1000) is None
    assert codec.lz4(bytes(1000), cap=20) is not None


def test_random_is_not_constant():
    assert codec.random(0) == b""
    assert codec.random(32) != codec.random(32)
