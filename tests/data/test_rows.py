"""Columns of bytes beyond Arrow's 2 GiB, without so much memory: what is not touched is not there."""

import numpy as np
import pyarrow as pa
import pytest
from rowmill.data import rows
from rowmill.errors import IntegrityError


def test_large_images_become_parts_that_fit() -> None:
    large = rows.as_binary(np.zeros((5000, 512 * 512 * 3), np.uint8))
    chunks = large.__arrow_array__().chunks if hasattr(large.__arrow_array__(), "chunks") else [large.__arrow_array__()]
    assert len(large) == 5000 and all(len(chunk) * 512 * 512 * 3 <= 2**30 for chunk in chunks)


def test_rows_are_taken_beyond_two_gib() -> None:
    part = rows.as_binary(np.zeros((1, 700 * 2**20), np.uint8)).__arrow_array__()
    whole = pa.table({"image": pa.chunked_array([chunk for _ in range(4) for chunk in pa.chunked_array(part).chunks])})
    with pytest.raises(pa.ArrowInvalid):
        whole.take([3, 2, 1, 0])
    assert rows.take(whole.slice(0, 1), [0]).num_rows == 1
    assert rows.take(pa.table({"image": pa.array([b"a", b"b"]), "name": ["x", "y"]}), [1, 0]).to_pydict() == {
        "image": [b"b", b"a"],
        "name": ["y", "x"],
    }


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_bytes_are_read_where_they_lie(kind: pa.DataType) -> None:
    chunk = pa.array([b"ab", b"cd", b"ef"], kind)
    assert rows.bytes_of(chunk.slice(1), 2).tobytes() == b"cdef" and rows.bytes_of(chunk.slice(3), 2).shape == (0, 2)
    for odd in (pa.array([b"ab", b"c"], kind), pa.array([b"ab", None], kind)):
        with pytest.raises(IntegrityError, match="must have 2 bytes; found 1 that have not"):
            rows.bytes_of(odd, 2)
