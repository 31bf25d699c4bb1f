"""Cloud Build for functions: an uploaded source becomes an image, here a folder and the name of the function in it."""

import base64
import hashlib
import io
import tarfile
import uuid
import zipfile
from pathlib import Path

from tests.google.instances import Image
from tests.google.storage import Storage
from tests.google.wire import NUMBER, Answer, ApiError, Call, Json, Routes, now

FAILED = "Build failed; check build logs for details"
NO_MAIN = (
    "missing main.py and GOOGLE_FUNCTION_SOURCE not specified. Either create the function in main.py or specify GOOGLE_FUNCTION_SOURCE"
)


class Builds:
    """The builds and the images that they made.

    Attributes:
        failure: Why the next builds fail; empty: they do not.
    """

    def __init__(self, storage: Storage, folder: Path) -> None:
        self.failure = ""
        self._storage, self._folder = storage, folder
        self._images: dict[str, Image] = {}
        self._operations: dict[str, Json] = {}

    def routes(self) -> Routes:
        """Return the calls that are answered."""
        return {
            "POST run/v2/projects/<project>/locations/<region>/builds:submit": self._submit,
            "GET cloudbuild/v1/projects/<project>/locations/<region>/operations/<operation>": self._operation,
            "GET cloudbuild/v1/projects/<project>/locations/<region>/defaultServiceAccount": _default_account,
        }

    def image(self, uri: str) -> Image | None:
        """Return what a build made, by `repository/name@sha256:digest`."""
        return self._images.get(uri)

    def build(self, uri: str, source: Json, target: str) -> str:
        """Unpack an uploaded source, and return the digest of the image that it is now.

        Raises:
            ApiError: The source cannot be built.
        """
        content = self._storage.content(source["bucket"], source["object"])
        if self.failure:
            raise ApiError(400, self.failure)
        folder = self._folder / f"source-{uuid.uuid4().hex[:12]}"
        folder.mkdir(parents=True)
        if zipfile.is_zipfile(io.BytesIO(content)):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                archive.extractall(folder)
        else:
            with tarfile.open(fileobj=io.BytesIO(content)) as tarball:
                tarball.extractall(folder, filter="data")
        if not (folder / "main.py").is_file():
            raise ApiError(400, NO_MAIN)
        digest = "sha256:" + hashlib.sha256(content + target.encode() + folder.name.encode()).hexdigest()
        self._images[f"{uri}@{digest}"] = Image(folder, target)
        return digest

    def _submit(self, call: Call) -> Answer:
        asked = call.content
        pack = asked.get("buildpackBuild", {})
        uri, place = asked["imageUri"], f"projects/{NUMBER}/locations/{call.names['region']}"
        build = {"id": str(uuid.uuid4()), "projectId": call.names["project"], "createTime": now(), "status": "SUCCESS"}
        build["name"] = f"{place}/builds/{build['id']}"
        build["logUrl"] = (
            f"https://console.cloud.google.com/cloud-build/builds;region={call.names['region']}/{build['id']}?project={NUMBER}"
        )
        ended: Json = {}
        try:
            digest = self.build(uri, asked["storageSource"], pack.get("functionTarget") or "")
            finished = {**build, "results": {"images": [{"name": uri, "digest": digest}]}}
            ended["response"] = {"@type": "type.googleapis.com/google.devtools.cloudbuild.v1.Build", **finished}
        except ApiError as error:
            finished = {**build, "status": "FAILURE", "statusDetail": str(error)}
            ended["error"] = {"code": 2, "message": FAILED}
        name = f"{place}/operations/{base64.urlsafe_b64encode(build['id'].encode()).decode()}"
        kind = "type.googleapis.com/google.devtools.cloudbuild.v1.BuildOperationMetadata"
        self._operations[build["id"]] = {"name": name, "metadata": {"@type": kind, "build": finished}, "done": True, **ended}
        started = {"name": name, "metadata": {"@type": kind, "build": {**build, "status": "QUEUED"}}, "done": False}
        return {"buildOperation": started, "baseImageUri": pack.get("baseImage", "")}

    def _operation(self, call: Call) -> Answer:
        found = self._operations.get(call.names["operation"])
        if found is None:
            raise ApiError(404, f"operation {call.names['operation']} not found")
        return found


def _default_account(call: Call) -> Answer:
    name = f"projects/{call.names['project']}/locations/{call.names['region']}/defaultServiceAccount"
    email = f"{NUMBER}-compute@developer.gserviceaccount.com"
    return {"name": name, "serviceAccountEmail": f"projects/{NUMBER}/serviceAccounts/{email}"}
