"""A console on the first serial port: kernels and GRUB speak there too.

systemd starts a getty by itself (systemd-getty-generator(8)) where the kernel has such a console. Formats:
Linux' serial-console.rst; GRUB's manual, Serial terminal; the Boot Loader Specification.
"""

import re

PORT = "ttyS0"
CONSOLE = f"console={PORT},115200"
SERIAL = "serial --unit=0 --speed=115200"

_GRUB_LINE = re.compile(r"^[ \t]*(?:linux|linux16|linuxefi|kernel)[ \t]+\S[^\n]*$", re.MULTILINE)
_ENTRY_LINE = re.compile(r"^[ \t]*options[ \t]+\S[^\n]*$", re.MULTILINE)
_APPEND_LINE = re.compile(r"^[ \t]*append[ \t]+\S[^\n]*$", re.MULTILINE | re.IGNORECASE)
_OF_SYSLINUX = re.compile(r"/(?:ext|sys)linux[/.]")
_KERNEL_OPTIONS = re.compile(r"^kernelopts=[^\n]*$", re.MULTILINE)
_COMMAND_LINE = re.compile(r"^([ \t]*GRUB_CMDLINE_LINUX=)([\"'])([^\"'\n]*)\2[ \t]*$", re.MULTILINE)
_ON_PORT = re.compile(rf"^[ \t]*GRUB_CMDLINE_LINUX(?:_DEFAULT)?=[^\n]*console={PORT}\b", re.MULTILINE)
_TERMINAL = re.compile(r"^[ \t]*(?:#[ \t]*)?GRUB_TERMINAL=[^\n]*\n?", re.MULTILINE)
_TERMINAL_IN_USE = re.compile(r"^[ \t]*GRUB_TERMINAL(?:_INPUT|_OUTPUT)?=[^\n]*\bserial\b", re.MULTILINE)
_HEADER_END = re.compile(r"^### END /etc/grub\.d/00_header ###\n", re.MULTILINE)
_SPLASH = re.compile(r"^([ \t]*)(splashimage|gfxmenu)\b", re.MULTILINE)


def with_console(arguments: str) -> str:
    """A kernel's arguments with a console on the serial port, behind those that are there.

    The screen stays one: Linux leaves it out as soon as any other is named.
    """
    consoles = [word for word in arguments.split() if word.startswith("console=")]
    if any(word.partition("=")[2].partition(",")[0] == PORT for word in consoles):
        return arguments
    added = CONSOLE if consoles else f"console=tty0 {CONSOLE}"
    return f"{arguments.rstrip()} {added}" if arguments.strip() else added


def entries_with_console(path: str, text: str) -> str:
    """A boot loader's file, all of whose kernels have one."""
    if path.endswith("grubenv"):
        return _KERNEL_OPTIONS.sub(lambda found: with_console(found[0]), text)
    if _OF_SYSLINUX.search(path):
        return _APPEND_LINE.sub(lambda found: with_console(found[0]), text)
    if "/loader/entries/" in path:
        # `options $kernelopts` has them from GRUB's environment.
        return _ENTRY_LINE.sub(
            lambda found: found[0] if "$kernelopts" in found[0] else with_console(found[0]), text
        )
    text = _GRUB_LINE.sub(lambda found: found[0] if _is_no_linux(found[0]) else with_console(found[0]), text)
    if path.endswith(("menu.lst", "grub.conf")):
        return _legacy_terminal(text)
    return _grub_terminal(text)


def settings_with_console(text: str) -> str:
    """/etc/default/grub, so that the guest's next update of its entries says the same."""
    if not _ON_PORT.search(text):
        if _COMMAND_LINE.search(text):
            text = _COMMAND_LINE.sub(lambda found: f'{found[1]}"{with_console(found[3])}"', text)
        else:
            text = f'{_ended(text)}GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {with_console("")}"\n'
    if _TERMINAL_IN_USE.search(text):
        return text
    return (
        f'{_ended(_TERMINAL.sub("", text))}GRUB_TERMINAL="console serial"\nGRUB_SERIAL_COMMAND="{SERIAL}"\n'
    )


def command_line_with_console(text: str) -> str:
    """/etc/kernel/cmdline (kernel-install(8)), whose lines are one, but for comments."""
    lines = text.splitlines(keepends=True)
    said = [number for number, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    before = " ".join(lines[number].strip() for number in said)
    after = with_console(before)
    if after == before or not said:
        return text
    last = lines[said[-1]]
    body = last.rstrip()
    lines[said[-1]] = f"{body}{after[len(before) :]}{last[len(body) :]}"
    return "".join(lines)


def _grub_terminal(text: str) -> str:
    """grub.cfg as grub-mkconfig writes it, its menu on the serial port beside the screen."""
    if re.search(r"^[ \t]*terminal_output\b[^\n]*\bserial\b", text, re.MULTILINE):
        return text
    lines = f"{SERIAL}\nterminal_input --append serial\nterminal_output --append serial\n"
    return _HEADER_END.sub(lambda found: f"{lines}{found[0]}", text, count=1)


def _legacy_terminal(text: str) -> str:
    """GRUB legacy, which shows no picture there."""
    if re.search(r"^[ \t]*terminal\b[^\n]*\bserial\b", text, re.MULTILINE):
        return text
    text = _SPLASH.sub(r"\1#\2", text)
    return f"{SERIAL}\nterminal --timeout=5 serial console\n{text}"


def _is_no_linux(line: str) -> bool:
    """A hypervisor or a memory test."""
    return re.search(r"xen[^\s]*\.gz|memtest|multiboot", line) is not None


def _ended(text: str) -> str:
    return text if text.endswith("\n") or not text else f"{text}\n"
