"""Where things land: a folder, or a bucket too."""

from __future__ import annotations

from typing import Any

import pytest

from dataops_platform_tests.landing_scene import Bucket, Folder


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.cloud)])
def scene(request, tmp_path) -> Any:
    if request.param == "folder":
        return Folder(tmp_path)
    client, bucket = request.getfixturevalue("gcs_client"), request.getfixturevalue("bucket")
    return Bucket(client, bucket, client.create_bucket(f"{bucket}-lake").name)


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path)
