"""A small folder of every source, written by libraries that others write them with."""

import base64
import csv
import functools
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import tensorflow_datasets as tfds
from PIL import Image
from pyarrow import parquet

from flamingo_jax.data.documents import Document, Medium
from flamingo_jax.data.media import encode_gif
from flamingo_jax.data.shards import write_index, write_shard

COUNT = 6


def picture(number: int, width: int = 40, height: int = 30, kind: str = "PNG") -> bytes:
    """A picture that tells its number by its colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (10 * number, 100, 200)).save(buffer, kind)
    return buffer.getvalue()


@functools.cache  # a WebM gets a random number
def movie(number: int, seconds: int = 3, kind: str = "mp4") -> bytes:
    """A clip of four frames a second that grows lighter."""
    frames = [np.full((16, 16, 3), 20 + i, np.uint8) for i in range(4 * seconds)]
    if kind == "gif":
        return encode_gif(np.stack(frames))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream: Any = container.add_stream("mpeg4" if kind == "mp4" else "libvpx", rate=4)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        for frame in frames:
            frame[0, 0] = number
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def caption(number: int) -> str:
    """Of picture or clip `number`."""
    return f'picture number {number}, "quoted", of a café'


def page(number: int) -> Document:
    """Text, two images, and text between and after them."""
    first, second = (Medium(f"{number}-{k}.png", picture(number, 40 + k)) for k in range(2))
    return Document(
        f"https://a.org/{number}", (f"Page {number}.", first, "Between.", second, "After.")
    )


def extracted(folder: Path) -> Path:
    """As `flamingo_jax.data.extract` writes it."""
    folder.mkdir()
    shard = write_shard(folder / "00000.array_record", [page(i) for i in range(COUNT)])
    write_index(folder, [shard], {"pages": COUNT})
    return folder


def obelics(folder: Path) -> Path:
    """As published, with addresses of images that lie in a folder beside."""
    (folder / "images").mkdir(parents=True)
    rows: dict[str, list[Any]] = {name: [] for name in ("texts", "images", "metadata")}
    pages = []
    for i in range(COUNT):
        names = [f"https://b.org/p/{i}-{k}.png" for k in range(2)]
        for k, name in enumerate(names):
            (folder / "images" / Path(name).name).write_bytes(picture(i, 40 + k))
        rows["texts"].append([f"Page {i}.", None, "Between.", None, "After."])
        rows["images"].append([None, names[0], None, names[1], None])
        told = [None, {"src": names[0]}, None, {"src": names[1]}, None]
        rows["metadata"].append(json.dumps(told))
        pages.append(json.dumps({"url": f"https://a.org/{i}"}))
    table = pa.table({**rows, "general_metadata": pages})
    parquet.write_table(table, folder / "part-0.parquet", row_group_size=2)
    return folder


def obelics_bytes(folder: Path) -> Path:
    """With the images' bytes, as Hugging Face's libraries write them."""
    folder.mkdir()
    images = [
        [None, {"bytes": picture(i), "path": None}, None, {"bytes": picture(i, 41), "path": None}]
        for i in range(COUNT)
    ]
    texts = [[f"Page {i}.", None, "Between.", None] for i in range(COUNT)]
    parquet.write_table(pa.table({"texts": texts, "images": images}), folder / "a.parquet")
    return folder


def mmc4_row(number: int, inside: bool) -> dict[str, Any]:
    """A page whose image comes before its second sentence."""
    told = {"image_name": f"{number}.png", "raw_url": f"http://c.org/{number}.png"}
    told |= {"matched_text_index": 1, "matched_sim": 0.3}
    if inside:
        told["image_base64"] = base64.b64encode(picture(number)).decode()
    return {
        "text_list": [f"Page {number}.", "A sentence.", "Another."],
        "image_info": [told],
        "url": f"https://a.org/{number}",
        "similarity_matrix": [[0.1, 0.3, 0.2]],
    }


def mmc4(folder: Path) -> Path:
    """As published, zipped, with the images beside."""
    folder.mkdir()
    lines = "".join(json.dumps(mmc4_row(i, False)) + "\n" for i in range(COUNT))
    with zipfile.ZipFile(folder / "docs_shard_0_v3.jsonl.zip", "w") as archive:
        archive.writestr("docs_shard_0_v3.jsonl", lines)
    for i in range(COUNT):
        (folder / f"{i}.png").write_bytes(picture(i))
    return folder


def mmc4_gzip(folder: Path) -> Path:
    """With the images inside."""
    folder.mkdir()
    with gzip.open(folder / "docs.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(mmc4_row(i, True)) + "\n" for i in range(COUNT))
    return folder


def tar(path: Path, files: dict[str, bytes]) -> None:
    """Writes a tar."""
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def mmc4_tar(folder: Path) -> Path:
    """As OpenFlamingo converts it."""
    folder.mkdir()
    files = {f"{i}.json": json.dumps(mmc4_row(i, True)).encode() for i in range(COUNT)}
    tar(folder / "000000000.tar", files)
    return folder


def webdataset(folder: Path) -> Path:
    """Two shards as img2dataset writes them, with what it writes beside them."""
    folder.mkdir()
    for shard in range(2):
        files = {}
        for i in range(3 * shard, 3 * shard + 3):
            key = f"{shard:05d}{i:04d}"
            told = {"caption": caption(i), "url": f"http://d.org/{i}.jpg", "key": key}
            files[f"{key}.jpg"] = picture(i, kind="JPEG")
            files[f"{key}.json"] = json.dumps(told).encode()
            files[f"{key}.txt"] = caption(i).encode()
        tar(folder / f"{shard:05d}.tar", files)
        parquet.write_table(
            pa.table({"url": ["http://d.org/0.jpg"]}), folder / f"{shard:05d}.parquet"
        )
        (folder / f"{shard:05d}_stats.json").write_text("{}")
    return folder


def webdataset_videos(folder: Path) -> Path:
    """As video2dataset writes them."""
    folder.mkdir()
    files = {}
    for i in range(COUNT):
        files |= {f"{i:08d}.mp4": movie(i), f"{i:08d}.txt": caption(i).encode()}
    tar(folder / "00000.tar", files)
    return folder


def table_csv(folder: Path) -> Path:
    """Images and a csv."""
    folder.mkdir()
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption"])
        for i in range(COUNT):
            (folder / f"{i}.webp").write_bytes(picture(i, kind="WEBP"))
            writer.writerow([f"{i}.webp", caption(i)])
    return folder


def table_jsonl(folder: Path) -> Path:
    """As Hugging Face's image folders are."""
    folder.mkdir()
    rows = [{"file_name": f"{i}.png", "text": caption(i)} for i in range(COUNT)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for i in range(COUNT):
        (folder / f"{i}.png").write_bytes(picture(i))
    return folder


def videos(folder: Path) -> Path:
    """Clips of three formats and a csv."""
    folder.mkdir()
    with (folder / "videos.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "caption"])
        for i in range(COUNT):
            kind = ("mp4", "webm", "gif")[i % 3]
            (folder / f"{i}.{kind}").write_bytes(movie(i, kind=kind))
            writer.writerow([f"{i}.{kind}", caption(i)])
    return folder


def webvid(folder: Path) -> Path:
    """As WebVid's csv names its files."""
    (folder / "videos" / "001_050").mkdir(parents=True)
    with (folder / "results_2M_val.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["videoid", "contentUrl", "duration", "page_dir", "name"])
        for i in range(COUNT):
            (folder / "videos" / "001_050" / f"{i}.mp4").write_bytes(movie(i))
            writer.writerow([i, f"https://e.org/{i}.mp4", "PT00H00M03S", "001_050", caption(i)])
    return folder


def prepared(folder: Path) -> Path:
    """A TFDS data set."""
    from tests.data.sources.captioned.builder import Captioned

    tfds.disable_progress_bar()
    build: Any = Captioned
    build(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder / "captioned"


Make = Callable[[Path], Path]
PAGES: tuple[Make, ...] = (extracted, obelics, obelics_bytes, mmc4, mmc4_gzip, mmc4_tar)
PAIRS: tuple[Make, ...] = (webdataset, table_csv, table_jsonl, prepared)
VIDEOS: tuple[Make, ...] = (webdataset_videos, videos, webvid)


def digest(content: bytes) -> str:
    """sha256, as `show` prints it."""
    return hashlib.sha256(content).hexdigest()
