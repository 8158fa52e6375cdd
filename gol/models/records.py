"""A checkpoint's checksums, which ``torch.save`` writes and ``torch.load`` does not look at."""

import zipfile
from io import BytesIO

_FOLDER = 0x10  # an attribute for which torch's reader leaves a tensor's memory as it finds it
_CHUNK = 1 << 20


def check_records(content: bytes) -> bool:
    """Compares every record of a file that ``torch.save`` wrote with its CRC-32.

    Args:
        content: the whole file, so that an error can only be in it and not in the reading.

    Returns:
        Whether there was something to compare: files in torch's format before 1.6 have no
        checksums, nor have those saved with ``torch.serialization.set_crc32_options(False)``.

    Raises:
        Exception: the content is not what was written, or empty; zipfile has half a dozen types.
    """
    if not content:
        raise EOFError("it is empty")
    if not (content.startswith(b"PK") or zipfile.is_zipfile(BytesIO(content))):
        return False
    with zipfile.ZipFile(BytesIO(content)) as archive:
        records = archive.infolist()
        if not any(record.CRC for record in records):
            return False
        for record in records:
            _check(archive, record)
    return True


def _check(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> None:
    size = 0
    with archive.open(record) as file:
        while chunk := file.read(_CHUNK):  # at the end zipfile compares the checksum
            size += len(chunk)
    if size != record.file_size or record.external_attr & _FOLDER:
        raise zipfile.BadZipFile(f"wrong size or kind of record {record.filename!r}")
