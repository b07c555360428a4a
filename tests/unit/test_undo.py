"""Taking things back: last first, each once, and none where it would do harm."""

import asyncio

from temporalio.exceptions import ActivityError, ApplicationError

from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.undo import Undo, UndoStack


def _failing(message: str, hint: str) -> ActivityError:
    error = ActivityError(
        "failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="",
        activity_type="undo",
        activity_id="1",
        retry_state=None,
    )
    failure = Failure(code=ErrorCode.VCENTER_FAULT, message=message, hint=hint)
    error.__cause__ = ApplicationError(message, failure)
    return error


def _stack(done: list[str], *undos: tuple[str, bool, tuple[str, ...]]) -> UndoStack:
    stack = UndoStack()

    def undo(name: str, works: bool, after: tuple[str, ...]) -> Undo:
        async def act() -> None:
            if not works:
                raise _failing("it is stuck", "pull it")
            done.append(name)

        return Undo(name, act, after=frozenset(after))

    for each in undos:
        stack.push(undo(*each))
    return stack


def test_the_last_is_taken_back_first_and_one_that_fails_stops_no_other() -> None:
    done: list[str] = []
    stack = _stack(done, ("a", True, ()), ("b", False, ()), ("c", True, ()))
    assert asyncio.run(stack.run()) == ("b: it is stuck pull it",)
    assert done == ["c", "a"]
    assert "a" not in stack


def test_what_would_do_harm_beside_what_could_not_be_undone_is_left() -> None:
    done: list[str] = []
    stack = _stack(done, ("power", True, ("domain",)), ("domain", False, ()))
    left = asyncio.run(stack.run())
    assert done == []
    assert [text.split(":")[0] for text in left] == ["domain", "power"]

    stack = _stack(done, ("power", True, ("domain",)), ("domain", True, ()))
    assert asyncio.run(stack.run()) == ()
    assert done == ["domain", "power"]


def test_what_is_meant_to_stay_is_forgotten() -> None:
    done: list[str] = []
    stack = _stack(done, ("a", True, ()), ("b", True, ()))
    assert "b" in stack
    stack.forget("b")
    assert "b" not in stack
    asyncio.run(stack.run())
    assert done == ["a"]
