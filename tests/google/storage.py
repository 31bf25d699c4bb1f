"""Cloud Storage, as far as gcloud uploads sources to it."""

import base64
import json
import re
import secrets
import threading
import time

import google_crc32c
from werkzeug import Response

from tests.google.wire import NUMBER, Answer, ApiError, Call, Json, Routes, now


class Storage:
    """Buckets and objects in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[str, Json] = {}
        self._objects: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._uploads: dict[str, tuple[str, str, bytearray]] = {}

    def routes(self) -> Routes:
        """Return the calls that are answered."""
        return {
            "GET storage/storage/v1/b": self._list_buckets,
            "POST storage/storage/v1/b": self._create_bucket,
            "GET storage/storage/v1/b/<bucket>": self._bucket,
            "DELETE storage/storage/v1/b/<bucket>": self._delete_bucket,
            "GET storage/storage/v1/b/<bucket>/storageLayout": self._bucket,
            "GET storage/storage/v1/b/<bucket>/managedFolders": self._bucket,
            "GET storage/storage/v1/b/<bucket>/o": self._list,
            "GET storage/storage/v1/b/<bucket>/o/<path:name>": self._read,
            "DELETE storage/storage/v1/b/<bucket>/o/<path:name>": self._delete,
            "POST storage/upload/storage/v1/b/<bucket>/o": self._upload,
            "POST storage/resumable/upload/storage/v1/b/<bucket>/o": self._upload,
            "PUT storage/upload/storage/v1/b/<bucket>/o": self._go_on,
            "PUT storage/signed/<bucket>/<path:name>": self._signed,
        }

    def content(self, bucket: str, name: str) -> bytes:
        """Return an object.

        Raises:
            ApiError: There is none.
        """
        found = self._objects.get((bucket, name))
        if found is None:
            raise ApiError(404, f"No such object: {bucket}/{name}")
        return found[1]

    def _list_buckets(self, call: Call) -> Answer:
        prefix = call.query("prefix")
        return {"kind": "storage#buckets", "items": [bucket for name, bucket in self._buckets.items() if name.startswith(prefix)]}

    def _create_bucket(self, call: Call) -> Answer:
        name = call.content["name"]
        with self._lock:
            if name in self._buckets:
                raise ApiError(409, "Your previous request to create the named bucket succeeded and you already own it.", "conflict")
            location = call.content.get("location", "US").upper()
            self._buckets[name] = {"kind": "storage#bucket", "id": name, "name": name, "projectNumber": NUMBER, "location": location}
        return self._buckets[name]

    def _bucket(self, call: Call) -> Answer:
        if call.names["bucket"] not in self._buckets:
            raise ApiError(404, "The specified bucket does not exist.")
        return self._buckets[call.names["bucket"]]

    def _delete_bucket(self, call: Call) -> Answer:
        self._bucket(call)
        if any(bucket == call.names["bucket"] for bucket, _ in self._objects):
            raise ApiError(409, "The bucket you tried to delete is not empty.", "conflict")
        del self._buckets[call.names["bucket"]]
        return Response(status=204)

    def _list(self, call: Call) -> Answer:
        self._bucket(call)
        found = [pair for pair in self._objects if pair[0] == call.names["bucket"] and pair[1].startswith(call.query("prefix"))]
        return {"kind": "storage#objects", "items": [self._described(*pair) for pair in found]}

    def _delete(self, call: Call) -> Answer:
        self.content(call.names["bucket"], call.names["name"])
        del self._objects[call.names["bucket"], call.names["name"]]
        return Response(status=204)

    def _read(self, call: Call) -> Answer:
        bucket, name = call.names["bucket"], call.names["name"]
        content = self.content(bucket, name)
        return Response(content) if call.query("alt") == "media" else self._described(bucket, name)

    def _signed(self, call: Call) -> Answer:
        self.put(call.names["bucket"], call.names["name"], call.body)
        return Response()

    def _upload(self, call: Call) -> Answer:
        """Take a whole file with its description before it, or begin one in parts."""
        self._bucket(call)
        bucket, kind = call.names["bucket"], call.query("uploadType")
        if kind == "resumable":
            upload = secrets.token_hex(8)
            self._uploads[upload] = (bucket, call.content.get("name") or call.query("name"), bytearray())
            place = f"https://{call.request.host}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={upload}"
            return Response(status=200, headers={"Location": place})
        if kind == "media":
            return self.put(bucket, call.query("name"), call.body)
        described, content = _parts(call)
        return self.put(bucket, described.get("name") or call.query("name"), content)

    def _go_on(self, call: Call) -> Answer:
        bucket, name, content = self._uploads[call.query("upload_id")]
        content += call.body
        part = re.fullmatch(r"bytes \d+-(\d+)/(\d+|\*)", call.request.headers.get("Content-Range", ""))
        if part and (part[2] == "*" or int(part[1]) + 1 < int(part[2])):
            return Response(status=308, headers={"Range": f"bytes=0-{len(content) - 1}"})
        return self.put(bucket, name, bytes(content))

    def put(self, bucket: str, name: str, content: bytes) -> Json:
        """Store an object, and return what describes it."""
        with self._lock:
            self._objects[bucket, name] = (str(time.time_ns() // 1000), content)
        return self._described(bucket, name)

    def _described(self, bucket: str, name: str) -> Json:
        generation, content = self._objects[bucket, name]
        checksum = base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
        facts = {"kind": "storage#object", "id": f"{bucket}/{name}/{generation}", "bucket": bucket, "name": name, "timeCreated": now()}
        return {**facts, "size": str(len(content)), "generation": generation, "metageneration": "1", "crc32c": checksum}


def _parts(call: Call) -> tuple[Json, bytes]:
    """Return the two parts of a multipart/related body: the description and the file."""
    # gcloud puts it between single quotes, which no standard knows.
    boundary = call.request.headers["Content-Type"].partition("boundary=")[2].strip("'\"")
    _, first, second, _ = call.body.split(f"--{boundary}".encode())
    described, content = (re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1] for part in (first, second))
    return json.loads(described.strip() or b"{}"), content.removesuffix(b"\n").removesuffix(b"\r")
