"""Every kind of file gives the same rows, piece by piece, and says in a sentence what is wrong."""

import json
import struct
import sys
import warnings
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from offdiag._checks import DataError, OffdiagError
from offdiag.embeddings.labels import open_labels
from offdiag.embeddings.reader import open_embeddings, rows_for

Z = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)


def npy(path, z):
    np.save(path.with_suffix(".npy"), z)
    return path.with_suffix(".npy")


def npy_by_columns(path, z):
    np.save(path.with_suffix(".npy"), np.asfortranarray(z))
    return path.with_suffix(".npy")


def npy_big_endian(path, z):
    np.save(path.with_suffix(".npy"), z.astype(z.dtype.newbyteorder(">")))
    return path.with_suffix(".npy")


def npz(path, z):
    np.savez(path.with_suffix(".npz"), z)
    return path.with_suffix(".npz")


def npz_packed(path, z):
    np.savez_compressed(path.with_suffix(".npz"), z=z, labels=np.arange(len(z)))
    return path.with_suffix(".npz")


def npz_by_columns(path, z):
    np.savez_compressed(path.with_suffix(".npz"), z=np.asfortranarray(z))
    return path.with_suffix(".npz")


def pt(path, z):
    torch.save(torch.from_numpy(z), path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def pt_dict(path, z):
    torch.save({"z": torch.from_numpy(z), "epoch": 3}, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def pt_transposed(path, z):
    torch.save(torch.from_numpy(z.T.copy()).T, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def pt_of_old(path, z):
    file = path.with_suffix(".pt")
    torch.save(torch.nn.Parameter(torch.from_numpy(z)), file, _use_new_zipfile_serialization=False)
    return file


def safetensors(path, z):
    save_file({"z": torch.from_numpy(z)}, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def parquet(path, z):
    pq.write_table(pa.table({"id": range(len(z)), "z": list(z)}), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def parquet_fixed(path, z):
    column = pa.FixedSizeListArray.from_arrays(pa.array(z.ravel()), z.shape[1])
    file = path.with_suffix(".parquet")
    pq.write_table(pa.table({"z": column}), file, row_group_size=7)
    return file


def parquet_columns(path, z):
    columns = {f"z{i}": z[:, i] for i in range(z.shape[1])} | {"label": np.arange(len(z))}
    pq.write_table(pa.table(columns), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


WRITERS = [
    npy,
    npy_by_columns,
    npy_big_endian,
    npz,
    npz_packed,
    npz_by_columns,
    pt,
    pt_dict,
    pt_transposed,
    pt_of_old,
    safetensors,
    parquet,
    parquet_fixed,
    parquet_columns,
]


def rows_of(source, **settings):
    (array,) = open_embeddings(source, **settings)
    return torch.cat(list(array.chunks(7)))


def refusal(source, **settings):
    """The sentence with which embeddings are refused, on opening or on reading."""
    with pytest.raises(OffdiagError) as refused:
        for array in open_embeddings(source, **settings):
            list(array.chunks(7))
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("write", WRITERS, ids=lambda w: w.__name__)
def test_every_kind_of_file_gives_the_rows_that_were_written(write, tmp_path):
    (array,) = open_embeddings(write(tmp_path / "z", Z))
    assert (array.rows, array.dim, array.dtype) == (50, 6, "float32")
    chunks = list(array.chunks(7))
    assert [len(chunk) for chunk in chunks] == [7] * 7 + [1]
    assert torch.equal(torch.cat(chunks), torch.from_numpy(Z))
    assert torch.equal(torch.cat(list(array.chunks(50))), torch.from_numpy(Z))


@pytest.mark.parametrize("source", [Z, torch.from_numpy(Z), Z[::-1][::-1]])
def test_an_array_in_memory_is_read_like_a_file(source):
    assert torch.equal(rows_of(source), torch.from_numpy(Z))


@pytest.mark.parametrize(
    ("dtype", "read"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
    ids=str,
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_half_precision_is_widened_and_double_kept(dtype, read, suffix, tmp_path):
    z, path = torch.from_numpy(Z).to(dtype), tmp_path / f"z{suffix}"
    if suffix == ".pt":
        torch.save(z, path)
    else:
        save_file({"z": z}, path)
    found = rows_of(path)
    assert found.dtype == read and torch.equal(found, z.to(read))


def test_pieces_are_read_only_when_asked_for(tmp_path, monkeypatch):
    reads = []

    class Counting:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *why):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def read(self, size=-1):
            reads.append(size)
            return self.file.read(size)

    path = npy(tmp_path / "z", Z)
    (array,) = open_embeddings(path)
    plain = type(path).open
    monkeypatch.setattr(type(path), "open", lambda *a, **k: Counting(plain(*a, **k)))
    chunks = array.chunks(10)
    assert reads == []
    next(chunks)
    assert sum(reads) == 10 * 6 * 4
    next(chunks)
    assert sum(reads) == 20 * 6 * 4
    chunks.close()


def test_a_chunk_is_about_as_many_bytes_whatever_the_width():
    assert rows_for(2048) * 2048 * 4 == 32 * 2**20
    assert rows_for(10**9) == 1


def test_what_offdiag_embed_writes_gives_features_and_projection(tmp_path):
    path = tmp_path / "z.npz"
    np.savez(path, features=Z, projection=Z[:, :3], split=np.zeros(50, np.int8), labels=range(50))
    assert [array.name for array in open_embeddings(path)] == ["features", "projection"]
    assert rows_of(path, key="projection").shape == (50, 3)


def test_a_key_chooses_and_a_wrong_one_is_told_what_there_is(tmp_path):
    path = tmp_path / "z.npz"
    np.savez(path, first=Z, second=2 * Z)
    assert torch.equal(rows_of(path, key="second"), torch.from_numpy(2 * Z))
    assert "first (50 x 6) float32; second (50 x 6) float32" in refusal(path)
    assert "--key" in refusal(path)
    assert "no array 'third': it has first (50 x 6)" in refusal(path, key="third")


def test_tokens_become_their_mean_or_rows_of_their_own(tmp_path):
    z = torch.randn(20, 5, 4)
    torch.save(z, tmp_path / "z.pt")
    assert torch.allclose(rows_of(tmp_path / "z.pt", tokens="mean"), z.mean(1))
    (flat,) = open_embeddings(z, tokens="flatten")
    chunks = list(flat.chunks(7))
    assert flat.rows == 100 and max(map(len, chunks)) <= 7
    assert torch.equal(torch.cat(chunks), z.reshape(-1, 4))
    assert "--tokens mean" in refusal(z)


def test_the_mean_over_half_precision_tokens_does_not_overflow():
    z = torch.full((3, 100, 2), 60_000.0, dtype=torch.float16)
    assert torch.equal(rows_of(z, tokens="mean"), torch.full((3, 2), 60_000.0).half().float())


def test_numbers_that_are_not_finite_are_counted_and_placed():
    z = Z.copy()
    z[3, 1] = np.nan
    z[20] = np.inf
    said = refusal(z)
    assert "1 nan and 6 inf in 2 of 50 rows (rows 3, 20, counted from 0)" in said
    many = np.full((50, 6), np.nan, np.float32)
    assert "300 nan in 50 of 50 rows (rows 0, 1, 2, 3, 4, ..., counted" in refusal(many)
    half = Z.astype(np.float16)
    half[0, 0] = np.inf
    assert "float16 ends at 65,504" in refusal(half)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (Z[:1], "one embedding has no spread"),
        (Z[:0], "is empty, (0 x 6)"),
        (Z[:, :0], "is empty, (50 x 0)"),
        (Z[0], "must be (images x width); got (6)"),
        (np.array(3.0), "must be (images x width); got ()"),
        (Z.reshape(50, 3, 2), "--tokens mean"),
        (Z.reshape(25, 3, 2, 2), "z.mean((2, 3))"),
        (Z.reshape(25, 1, 3, 2, 2), "reshape it"),
        ((100 * Z).astype(np.int8), "got int8: if they are quantised, multiply by the scale"),
        (Z > 0, "got bool: save them as float32"),
        (Z.astype(np.complex64), "got complex64: save real and imaginary"),
        (np.array([["a"]]), "must have floating-point numbers"),
        (Z.astype(object), "pickled Python objects"),
        (np.zeros(3, dtype=[("a", "f4"), ("b", "f4")]), "records"),
        (torch.from_numpy(Z).to_sparse(), "call .to_dense()"),
        (torch.zeros(4, 4, dtype=torch.int64), "got int64"),
    ],
)
def test_an_array_that_cannot_be_embeddings_is_refused(array, sentence):
    assert sentence in refusal(array)


@pytest.mark.parametrize("write", WRITERS, ids=lambda w: w.__name__)
@pytest.mark.parametrize("kept", [0, 3, 0.5, 0.97])
def test_a_file_cut_short_is_refused(write, kept, tmp_path):
    path = write(tmp_path / "z", np.tile(Z, (40, 1)))
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    said = refusal(path)
    assert str(path) in said
    assert "cut short" in said or "is empty" in said


def test_a_pickle_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    objects = np.array([[Trap()]], dtype=object)
    np.save(tmp_path / "z.npy", objects, allow_pickle=True)
    assert "pickled Python objects" in refusal(tmp_path / "z.npy")
    np.savez(tmp_path / "z.npz", z=objects)
    assert "pickled Python objects" in refusal(tmp_path / "z.npz")
    torch.save({"z": Trap()}, tmp_path / "z.pt")
    assert "holds more than tensors" in refusal(tmp_path / "z.pt")


def test_a_pickled_array_beside_a_plain_one_is_left_alone(tmp_path):
    np.savez(tmp_path / "z.npz", z=Z, names=np.array(["a", None], dtype=object))
    assert torch.equal(rows_of(tmp_path / "z.npz"), torch.from_numpy(Z))


def test_files_of_another_kind_or_none_are_refused(tmp_path):
    (tmp_path / "z.tsv").write_text("1,2\n3,4\n")
    assert "embeddings end in .npy, .npz, .pt" in refusal(tmp_path / "z.tsv")
    assert "does not exist" in refusal(tmp_path / "nowhere.npy")
    (tmp_path / "folder.npy").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.npy")
    torch.save([torch.zeros(2, 2)], tmp_path / "z.pt")
    assert "it holds a list: torch.save the embeddings as one tensor" in refusal(tmp_path / "z.pt")
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "an archive without arrays" in refusal(tmp_path / "z.npz")
    np.savez(tmp_path / "two.npz", a=np.arange(3), b=np.arange(4))
    assert "no array of embeddings" in refusal(tmp_path / "two.npz")
    pq.write_table(pa.table({"name": ["a", "b"]}), tmp_path / "z.parquet")
    assert "no column of numbers (its columns: name)" in refusal(tmp_path / "z.parquet")


def test_a_header_that_promises_more_than_the_file_has_is_refused_before_reading(tmp_path):
    path = npy(tmp_path / "z", Z)
    path.write_bytes(path.read_bytes().replace(b"(50, 6), ", b"(9**9, 6)"))
    assert "cannot be read as an .npy array" in refusal(path)
    path = npy(tmp_path / "z", Z)
    path.write_bytes(path.read_bytes().replace(b"(50, 6), ", b"(99999, 6"[:8] + b")"))
    assert "cut short: its array takes" in refusal(path)


def test_a_safetensors_file_with_a_wild_header_is_refused(tmp_path):
    path = tmp_path / "z.safetensors"
    header = json.dumps({"z": {"dtype": "F32", "shape": [9, 9], "data_offsets": [0, 10**15]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    assert "cannot be read as a .safetensors file" in refusal(path)


def test_lists_of_unequal_length_and_missing_values_are_placed(tmp_path):
    path = tmp_path / "z.parquet"
    pq.write_table(pa.table({"z": [[1.0, 2.0]] * 9 + [[1.0]]}), path)
    assert "row 9 has 1 numbers, row 0 has 2" in refusal(path)
    pq.write_table(pa.table({"z": [[1.0, 2.0], None, [3.0, 4.0]]}), path)
    assert "1 rows without a list" in refusal(path)
    pq.write_table(pa.table({"z": [[1.0, 2.0], [3.0, None]]}), path)
    assert "1 empty values" in refusal(path)


def test_without_safetensors_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    path = safetensors(tmp_path / "z", Z)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert "pip install safetensors" in refusal(path)


def test_labels_are_numbered_whatever_file_they_come_from(tmp_path):
    classes = np.array([7, 3, 3, 9])
    np.save(tmp_path / "y.npy", classes)
    np.savez(tmp_path / "y.npz", labels=classes, features=Z)
    torch.save(torch.from_numpy(classes), tmp_path / "y.pt")
    pq.write_table(pa.table({"label": classes, "z": list(Z[:4])}), tmp_path / "y.parquet")
    (tmp_path / "y.txt").write_text("dog\ncat\ncat\newe\n")
    for source in (classes, *tmp_path.iterdir()):
        assert open_labels(source, rows=4).tolist() == [1, 0, 0, 2], source


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.arange(3), "a label for each of the 4 embeddings; got 3"),
        (np.zeros((4, 2), int), "must have one axis"),
        (np.zeros(4), "must have whole numbers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, sentence):
    with pytest.raises(DataError, match=sentence):
        open_labels(labels, rows=4)


def test_reading_is_quiet(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frozen = Z.copy()
        frozen.flags.writeable = False
        assert torch.equal(rows_of(frozen), torch.from_numpy(Z))
