"""The child's side of a request: transactions, and groups of requests that share one.

Requests that wait for the same database at once run in one transaction, each inside a savepoint: they share the fsync
of one commit, and none is answered before it. A request that fails is rolled back alone. Where SQLite throws away the
whole transaction for one request's sake (OR ROLLBACK, a full disk, an interrupted write), or where the commit fails,
the group is run again, request by request: nothing of it has been answered or committed by then.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import apsw
import msgspec

from host_bindings.d1 import errors, failures, maintenance, outcome, script, values
from host_bindings.d1.connection import Connection
from host_bindings.d1.errors import RequestRefused
from host_bindings.d1.execution import too_large
from host_bindings.d1.limits import SqlLimits
from host_bindings.d1.wire import ALONE, Answer, Answers, Request, Status, Work

_QUOTED_LINE_CHARACTERS = 1_000


class Session:
    """Serves work, one database at a time. `send` must have handed the answers over when it returns."""

    def __init__(self, limits: SqlLimits, status: Status, send: Callable[[Answers], None]) -> None:
        self._limits = limits
        self._status = status
        self._send = send
        self._connections: OrderedDict[str, Connection] = OrderedDict()

    def serve(self, work: Work) -> None:
        self._status.begin_work()
        if work.requests[0].kind == "close":
            self._drop(work.directory)
            self._send(Answers([Answer(False, b"")], work.last_row_id))
            return
        try:
            connection = self._connection(work.directory)
            connection.allow(work.allowed)
        except RequestRefused as refused:
            self._send(Answers([_failed(refused)] * len(work.requests), work.last_row_id))
            return
        connection.last_row_id = work.last_row_id
        try:
            connection.checkpointer.before_work()
            _Run(self, connection, work.requests).run()
            connection.checkpointer.after_work()
        finally:
            if connection.spoilt:
                self._drop(work.directory)

    def close(self) -> None:
        for directory in list(self._connections):
            self._drop(directory)

    def _connection(self, directory: str) -> Connection:
        found = self._connections.get(directory)
        if found is not None and found.is_current:
            self._connections.move_to_end(directory)
            return found
        self._drop(directory)
        while len(self._connections) >= self._limits.connections:
            self._connections.popitem(last=False)[1].close()
        found = self._connections[directory] = Connection(Path(directory), self._limits)
        return found

    def _drop(self, directory: str) -> None:
        connection = self._connections.pop(directory, None)
        if connection is not None:
            connection.close()


class _Run:
    """The requests of one `Work`, answered in order."""

    def __init__(self, session: Session, connection: Connection, requests: list[Request]) -> None:
        self._limits = session._limits
        self._status = session._status
        self._send = session._send
        self._connection = connection
        self._requests = requests
        self._answered = 0

    def run(self) -> None:
        while self._answered < len(self._requests):
            if self._requests[self._answered].kind in ALONE:
                self._maintain()
            elif self._answered == len(self._requests) - 1:
                self._run_alone()
            else:
                self._run_together()

    def _answer(self, answers: list[Answer]) -> None:
        self._send(Answers(answers, self._connection.last_row_id))
        self._answered += len(answers)

    # One request, one transaction

    def _run_alone(self) -> None:
        self._status.executing(self._answered)
        try:
            try:
                answer = self._in_transaction(immediate=False)
            except apsw.BusyError:
                # Another process wrote between our first read and our first write. Ask for the lock first, then.
                self._connection.rollback()
                answer = self._in_transaction(immediate=True)
        except apsw.BusyError as busy:
            self._connection.rollback()
            answer = _failed(failures.refusal(busy))
        self._answer([answer])

    def _in_transaction(self, *, immediate: bool) -> Answer:
        connection = self._connection
        connection.begin(immediate=immediate)
        try:
            text = self._perform(self._requests[self._answered])
            self._commit()
        except RequestRefused as refused:
            connection.rollback()
            return _failed(refused)
        return Answer(False, text)

    def _commit(self) -> None:
        if self._connection.writing:
            self._status.committing()
        self._connection.commit()

    def _maintain(self) -> None:
        self._status.maintaining(self._answered)
        try:
            text = maintenance.perform(self._requests[self._answered], self._connection, self._limits)
            answer = Answer(False, text)
        except RequestRefused as refused:
            answer = _failed(refused)
        except apsw.Error as error:
            self._connection.spoilt = True
            answer = _failed(failures.refusal(error))
        self._answer([answer])

    # Several requests, one transaction

    def _run_together(self) -> None:
        """Answers at least one request."""
        connection, limits = self._connection, self._limits
        answers: list[Answer] = []
        size = 0
        until = time.monotonic() + limits.group_ms / 1000
        connection.begin()
        try:
            for position in range(self._answered, len(self._requests)):
                self._status.executing(position)
                answer = self._in_savepoint(self._requests[position])
                if not connection.in_transaction:
                    known = answer if connection.interrupted else None
                    return self._run_apart(position, known)
                answers.append(answer)
                size += len(answer.text)
                if size > limits.group_bytes or time.monotonic() > until:
                    break
            self._commit()
        except (apsw.BusyError, RequestRefused):
            connection.rollback()
            if connection.spoilt:
                # The disk failed in the commit. What it kept of the group is unknown: no second try, no claim.
                lost = _failed(RequestRefused(errors.CONNECTION_LOST))
                return self._answer([lost] * max(1, len(answers)))
            return self._run_apart(self._answered + max(0, len(answers) - 1), None)
        self._answer(answers)

    def _in_savepoint(self, request: Request) -> Answer:
        connection = self._connection
        connection.savepoint()
        try:
            text = self._perform(request)
        except RequestRefused as refused:
            if connection.in_transaction:
                connection.rollback_to_savepoint()
            return _failed(refused)
        connection.release()
        return Answer(False, text)

    def _run_apart(self, last: int, known: Answer | None) -> None:
        """Runs again, up to the request at `last`, what was rolled back. `known` is the last one's answer if it need
        not run again: it would only run into its deadline once more."""
        while self._answered < last:
            self._run_alone()
        if known is None:
            self._run_alone()
        else:
            self._answer([known])

    # What a request asks for

    def _perform(self, request: Request) -> bytes:
        connection = self._connection
        connection.begin_request()
        succeeded = False
        try:
            text = self._exec(request.body) if request.kind == "exec" else self._query(request.body)
            succeeded = True
            return text
        finally:
            connection.end_request(succeeded=succeeded)

    def _query(self, body: str) -> bytes:
        try:
            request = values.decode_query(body)
        except (msgspec.DecodeError, RecursionError):
            raise RequestRefused(values.NO_REQUEST) from None
        compact, statements = values.statements(request)
        if not statements:
            raise RequestRefused(errors.NO_STATEMENTS)
        if len(statements) > self._limits.batch_statements:
            raise RequestRefused(f"A batch has at most {self._limits.batch_statements} statements.")
        budget = self._connection.budget()
        execute = self._connection.execute
        outcomes = [execute(sql, values.parameters(parameters), budget) for sql, parameters in statements]
        bookmark = self._connection.bookmark() if request.bookmark else None
        text = outcome.compact(outcomes, bookmark) if compact else outcome.plain(outcomes, bookmark)
        # The budget is of rows: names of columns may be much more than what is in them.
        if len(text) > self._limits.result_bytes:
            raise too_large(self._limits)
        return text

    def _exec(self, sql: str) -> bytes:
        started = time.perf_counter()
        lines = sql.strip().split("\n")
        count = 0
        try:
            for line in lines:
                if not script.is_left_out(line):
                    self._connection.execute(line, [], self._connection.budget())
                    count += 1
            if not count:
                raise RequestRefused(errors.NO_STATEMENTS)
        except RequestRefused as refused:
            # D1 names the first line, whichever failed; clients match on the text.
            line = lines[0][:_QUOTED_LINE_CHARACTERS]
            text = f"D1_EXEC_ERROR: Error in line 1: {line}: {refused.bare}"
            raise RequestRefused(text, prefixed=True, code=refused.code) from None
        return values.json({"count": count, "duration": round((time.perf_counter() - started) * 1000, 4)})


def _failed(refused: RequestRefused) -> Answer:
    return Answer(True, refused.text.encode("utf-8", "replace"), refused.code)
