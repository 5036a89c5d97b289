"""Object storage servers: how pyarrow reaches them, and what is said of them in one line.

Who may do what is found as the provider's own tools find it: environment variables, profiles, the
machine's role. Another server than the provider's own is named by AWS_ENDPOINT_URL_S3 or
AWS_ENDPOINT_URL, by STORAGE_EMULATOR_HOST, or by AZURE_STORAGE_BLOB_ENDPOINT. Nothing waits for
ever: a request is tried `ATTEMPTS` times and has time limits.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from stream_scorer.errors import InputError, StreamScorerError, Unavailable

ATTEMPTS = 4
CONNECT_SECONDS, REQUEST_SECONDS = 10, 30
NO_ACCOUNT = "no account: write CONTAINER@ACCOUNT, or set AZURE_STORAGE_ACCOUNT"


def endpoint(scheme: str) -> str:
    """The server that the environment names; "" for the provider's own."""
    names = {
        "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "gs": ("STORAGE_EMULATOR_HOST",),
    }.get(scheme, ("AZURE_STORAGE_BLOB_ENDPOINT",))  # fmt: skip
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


@cache
def file_system(scheme: str, account: str, at: str) -> Any:
    """pyarrow's file system. account: of Azure. at: `endpoint`."""
    from pyarrow import fs  # noqa: PLC0415 - only for whom it is needed

    address = urlsplit(at if "://" in at else f"http://{at}")
    if scheme == "s3":
        return fs.S3FileSystem(
            endpoint_override=at or None, connect_timeout=CONNECT_SECONDS,
            request_timeout=REQUEST_SECONDS,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        )  # fmt: skip
    if scheme == "gs":
        limit = timedelta(seconds=REQUEST_SECONDS)
        if at:
            return fs.GcsFileSystem(
                anonymous=True, scheme=address.scheme, endpoint_override=address.netloc,
                retry_time_limit=limit,
            )  # fmt: skip
        return fs.GcsFileSystem(retry_time_limit=limit)
    name = account.partition(".")[0] or os.environ.get("AZURE_STORAGE_ACCOUNT")
    if not name:
        raise ValueError(NO_ACCOUNT)
    named = {}
    if at:
        named = {
            "blob_storage_authority": address.netloc, "dfs_storage_authority": address.netloc,
            "blob_storage_scheme": address.scheme, "dfs_storage_scheme": address.scheme,
        }  # fmt: skip
    return fs.AzureFileSystem(name, account_key=os.environ.get("AZURE_STORAGE_KEY"), **named)


# What servers and their clients say, by what it means; the first that is found counts.
_NO_BUCKET = r"NO_SUCH_BUCKET|[Bb]ucket does not exist|ContainerNotFound|FilesystemNotFound"
_REGION = r"PERMANENT_REDIRECT|HTTP status 301|HeaderMalformed|configured region is"
_CREDENTIALS = (
    r"INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN|SIGNATURE_DOES_NOT_MATCH|EXPIRED_TOKEN"
    r"|ExpiredToken|InvalidAccessKeyId|InvalidToken|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION"
    r"|UNAUTHENTICATED|AuthenticationFailed|InvalidAuthentication|HTTP status 401|[Cc]redential"
)
_RIGHTS = r"ACCESS_DENIED|AccessDenied|HTTP status 403|PERMISSION_DENIED|Authorization"
_NETWORK = (
    r"NETWORK_CONNECTION|curlCode|SLOW_DOWN|THROTTL|INTERNAL_FAILURE|SERVICE_UNAVAILABLE"
    r"|UNAVAILABLE|DEADLINE_EXCEEDED|[Tt]imeout|[Tt]imed out|HTTP status 5\d\d|[Cc]onnect"
)
_CHAIN = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or the machine's service account",
}
_AZURE_CHAIN = "AZURE_STORAGE_KEY, `az login`, or the machine's identity"
# Of what is not known by any of these: no address, which may be signed, and no number of a request.
_NOT_SHOWN = re.compile(r"\(Request ID.*|https?://\S+")


def without_bucket(bucket: str) -> str:
    """What is said of an address whose bucket is not there."""
    return f"there is no bucket {bucket}; make it, or correct the address"


def refusal(
    argument: str, address: str, bucket: str, said: str, *, writing: bool
) -> StreamScorerError:
    """The error to raise for what pyarrow said of an address. No secret is shown.

    InputError where a person must change something, Unavailable where the server does not answer.
    """
    scheme = address.partition(":")[0]
    remedy = _remedy(scheme, bucket, said, writing=writing)
    if remedy is not None:
        return InputError(argument, address, remedy)
    if re.search(_NETWORK, said):
        server = urlsplit(endpoint(scheme)).netloc.rpartition("@")[2]
        at = f" at {server}" if server else ""
        code = re.search(r"(?:AWS Error |Status\()(\w+)", said)
        reason = f" ({code[1]})" if code else ""
        return Unavailable(
            f"{argument}: {address}: the object storage{at} does not answer{reason}",
            "check the network and the endpoint, and run it again",
        )
    reason = _NOT_SHOWN.sub("", said.partition("\n")[0])[:200].strip()
    doing = "written" if writing else "read"
    return StreamScorerError(f"{argument}: {address}: can't be {doing} ({reason})")


def _remedy(scheme: str, bucket: str, said: str, *, writing: bool) -> str | None:
    """What a person must change; None where that is not known."""
    chain = _CHAIN.get(scheme, _AZURE_CHAIN)
    if re.search(_NO_BUCKET, said):
        return without_bucket(bucket)
    if re.search(_REGION, said):
        there = re.search(r"located in '([a-z0-9-]+)'", said)
        region = f"the bucket's own, {there[1]}" if there else "the bucket's own"
        return f"the bucket {bucket} is in another region; set AWS_REGION to {region}"
    if re.search(_CREDENTIALS, said):
        return f"the credentials are not accepted; check {chain}"
    if re.search(_RIGHTS, said):
        right = "write and delete" if writing else "read and list"
        return f"is refused: give credentials that may {right} it ({chain})"
    return said if said == NO_ACCOUNT else None
