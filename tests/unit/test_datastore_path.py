"""Names of files on datastores."""

import pytest

from hyperctl.activities.vsphere.datastore_path import DatastorePath
from hyperctl.workflows.errors import ErrorCode, HyperctlError


@pytest.mark.parametrize(
    ("text", "datastore", "path"),
    [
        ("[datastore1] web/web.vmdk", "datastore1", "web/web.vmdk"),
        ("[ds 1] web.vmdk", "ds 1", "web.vmdk"),
        ("[ds1] web [old] (2)/a] b.vmdk", "ds1", "web [old] (2)/a] b.vmdk"),
        ("[san.50%] 5aa1/über #1.vmdk", "san.50%", "5aa1/über #1.vmdk"),
    ],
)
def test_a_path_is_read_and_written_as_vsphere_does(text: str, datastore: str, path: str) -> None:
    assert DatastorePath.parse(text) == DatastorePath(datastore, path)
    assert str(DatastorePath.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "web/web.vmdk", "[] web.vmdk", "[ds] ", "[ds] ../x.vmdk", "[ds] a/./b", "[ds] /etc/passwd"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(HyperctlError) as caught:
        DatastorePath.parse(text)
    assert caught.value.code is ErrorCode.IMAGE_INVALID


def test_a_file_beside_another() -> None:
    assert str(DatastorePath.parse("[ds] a/b/c.vmdk").beside("c-flat.vmdk")) == "[ds] a/b/c-flat.vmdk"
    assert str(DatastorePath.parse("[ds] c.vmdk").beside("c-flat.vmdk")) == "[ds] c-flat.vmdk"


def test_names_that_need_no_quoting_have_one_form() -> None:
    path = DatastorePath.parse("[datastore1] web/web-flat.vmdk")
    assert path.targets("DC1") == ("/folder/web/web-flat.vmdk?dcPath=DC1&dsName=datastore1",)


def test_the_names_of_the_query_are_quoted_twice_and_once_but_the_path_once() -> None:
    path = DatastorePath.parse("[ds 1] a+b/100% #1 [x].vmdk")
    assert path.targets("Europe/DC%2f1") == (
        "/folder/a%2Bb/100%25%20%231%20%5Bx%5D.vmdk?dcPath=Europe%252FDC%25252f1&dsName=ds%25201",
        "/folder/a%2Bb/100%25%20%231%20%5Bx%5D.vmdk?dcPath=Europe%2FDC%252f1&dsName=ds%201",
    )
