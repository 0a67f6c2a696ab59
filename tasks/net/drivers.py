"""Which package brings fsspec the driver of a URL's scheme."""

from __future__ import annotations

DRIVERS = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "adl", "az"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    **dict.fromkeys(("webdav", "dav"), "webdav4"),
    "oss": "ossfs",
    "smb": "smbprotocol",
    "hf": "huggingface_hub",
}
