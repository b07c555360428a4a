"""Reading XML that may be hostile into a small tree, without a document type and so without entities. Pure.

The standard library's own expat does it: a document type is refused as soon as it begins, before it can
declare an entity or name anything outside. Size, depth and number of elements are bounded.
"""

from collections.abc import Iterator
from xml.parsers import expat

MOST_BYTES = 4 << 20
_MOST_DEPTH = 64
_MOST_ELEMENTS = 100_000
_SEPARATOR = " "


class MarkupError(ValueError):
    """It is not XML, or more of it than is taken."""


class Element:
    """One element. Names are local ones, without their namespace; the namespace stands beside."""

    __slots__ = ("attributes", "children", "line", "name", "namespace", "parts")

    def __init__(self, namespace: str, name: str, attributes: dict[str, str], line: int) -> None:
        self.namespace = namespace
        self.name = name
        self.attributes = attributes
        """By local name: writers differ in whether they qualify attributes, and no name is used twice."""
        self.line = line
        self.children: list[Element] = []
        self.parts: list[str] = []

    @property
    def text(self) -> str:
        """Its own text, without that of its children, and without space around."""
        return "".join(self.parts).strip()

    def all(self, *names: str) -> list["Element"]:
        return [child for child in self.children if child.name in names]

    def first(self, *names: str) -> "Element | None":
        return next((child for child in self.children if child.name in names), None)

    def text_of(self, name: str) -> str:
        """The text of the first child of that name; empty where there is none."""
        child = self.first(name)
        return child.text if child is not None else ""

    def below(self) -> Iterator["Element"]:
        """It and everything in it, in the document's order."""
        yield self
        for child in self.children:
            yield from child.below()


def read_markup(data: bytes) -> Element:
    """The document's root. Raises `MarkupError`."""
    if len(data) > MOST_BYTES:
        raise MarkupError(f"it has {len(data)} bytes, more than the {MOST_BYTES} that a descriptor may have")
    reader = _Reader()
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise MarkupError(f"it is no well-formed XML: {error}") from error
    except (LookupError, UnicodeError, ValueError) as error:
        if isinstance(error, MarkupError):
            raise
        raise MarkupError(f"its encoding cannot be read: {error}") from error
    if reader.root is None:
        raise MarkupError("it is empty")
    return reader.root


class _Reader:
    def __init__(self) -> None:
        self.parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._document_type
        self.parser.EntityDeclHandler = self._entity
        self.parser.ExternalEntityRefHandler = self._entity
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.root: Element | None = None
        self._open: list[Element] = []
        self._count = 0

    def _document_type(self, *_: object) -> None:
        raise MarkupError("it has a document type (DTD), which no OVF has and which is refused")

    def _entity(self, *_: object) -> int:
        raise MarkupError("it declares entities, which are refused")

    def _start(self, qualified: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > _MOST_ELEMENTS or len(self._open) >= _MOST_DEPTH:
            raise MarkupError("it has more elements, or deeper ones, than a descriptor may have")
        namespace, _, name = qualified.rpartition(_SEPARATOR)
        local = {key.rpartition(_SEPARATOR)[2]: value for key, value in attributes.items()}
        element = Element(namespace, name, local, self.parser.CurrentLineNumber)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _end(self, _: str) -> None:
        self._open.pop()

    def _characters(self, text: str) -> None:
        self._open[-1].parts.append(text)
