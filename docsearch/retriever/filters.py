"""The ``where`` language: comparisons on metadata, compiled to SQL with bound parameters.

    year >= 2022 and team in ("fin", "ops") and not draft
    "annual" in title or page <= 3

The grammar is Python's own for expressions, read by `ast` and never run: names, constants, comparisons, ``in``,
``and``, ``or``, ``not``. A name is a key of the metadata, or one of ``path``, ``title``, ``page``, ``page_count``,
``page_label``, ``indexed_at``. A comparison with a missing value, or between a number and a text, is false.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections import defaultdict
from typing import Any

from docsearch.errors import FilterError

MOST_CHARACTERS = 4096
_MOST_CONDITIONS, _MOST_NESTED = 500, 15  # SQLite's own limits are on what these are turned into
_COLUMNS = {
    "title": "d.title",
    "page": "p.page_number",
    "page_count": "d.page_count",
    "page_label": "p.page_label",
    "indexed_at": "d.indexed_at",
}
_OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "=",
    ast.NotEq: "<>",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "<>": "<>"}
_NUMBERS, _TEXTS, _BOOLEANS = "('integer', 'real')", "('text')", "('true', 'false')"
_ANY_FILE = "EXISTS (SELECT 1 FROM files f WHERE f.doc_id = d.doc_id AND {})"


def compile_where(expression: str) -> tuple[str, list[Any]]:
    """Turn an expression into an SQL condition on ``pages p JOIN documents d`` and the values bound to its marks.

    Raises:
        FilterError: the expression cannot be understood; the message says what and shows an example.
    """
    if len(expression) > MOST_CHARACTERS:
        raise FilterError(expression[:40] + "…", f"it is longer than {MOST_CHARACTERS} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's opinion of the user's literals
            tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FilterError(expression, str(getattr(error, "msg", error))) from None
    try:
        return _Compiler(expression).condition(tree.body)
    except RecursionError:
        raise FilterError(expression, "it is nested too deeply") from None


def path_condition(pattern: str) -> tuple[str, list[Any]]:
    """A condition for documents one of whose paths matches a glob; ``*`` crosses folders, as SQLite's GLOB does.

    Raises:
        FilterError: the glob is too long, or holds half a character.
    """
    if len(pattern) > MOST_CHARACTERS:
        raise FilterError(pattern[:40] + "…", f"it is longer than {MOST_CHARACTERS} characters")
    if _holds_half_a_character(pattern):
        raise FilterError(pattern, "it holds half a character (a lone surrogate)")
    return _ANY_FILE.format("(f.path GLOB ? OR f.path GLOB ?)"), [pattern, f"*/{pattern}"]


class _Compiler:
    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._conditions = 0

    def condition(self, node: ast.expr, depth: int = 0) -> tuple[str, list[Any]]:
        self._conditions += len(node.ops) if isinstance(node, ast.Compare) else 1
        if depth > _MOST_NESTED or self._conditions > _MOST_CONDITIONS:
            raise self._error(f"it is nested more than {_MOST_NESTED} deep, or has more than {_MOST_CONDITIONS} parts")
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.condition(value, depth + 1) for value in values]
                word = " AND " if isinstance(op, ast.And) else " OR "
                return "(" + word.join(sql for sql, _ in parts) + ")", [x for _, bound in parts for x in bound]
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                sql, bound = self.condition(operand, depth + 1)
                return f"NOT {sql}", bound
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                sides = [left, *comparators]
                parts = [self._comparison(sides[at], op, sides[at + 1]) for at, op in enumerate(ops)]
                return "(" + " AND ".join(sql for sql, _ in parts) + ")", [x for _, bound in parts for x in bound]
            case ast.Name(id=name):
                value, bound, _ = self._field(name)
                return f"ifnull({value}, 0) NOT IN (0, '')", bound
            case ast.Constant(value=bool(value)):
                return str(int(value)), []
        raise self._error(f"{ast.unparse(node)} is no condition")

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> tuple[str, list[Any]]:
        if isinstance(op, ast.In | ast.NotIn):
            sql, bound = self._membership(left, right)
            return (sql if isinstance(op, ast.In) else f"NOT {sql}"), bound
        if type(op) not in _OPERATORS:
            raise self._error(f"{ast.unparse(ast.Compare(left, [op], [right]))} uses an operator it does not know")
        operator = _OPERATORS[type(op)]
        if not isinstance(left, ast.Name):
            left, right, operator = right, left, _MIRRORED[operator]
        if not isinstance(left, ast.Name):
            raise self._error(f"{ast.unparse(left)} is compared, but no name is")
        return self._compare(left.id, operator, self._constant(right))

    def _membership(self, left: ast.expr, right: ast.expr) -> tuple[str, list[Any]]:
        match left, right:
            case ast.Name(id=name), ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
                kinds: dict[type, list[Any]] = defaultdict(list)
                for constant in map(self._constant, items):
                    kinds[float if type(constant) is int else type(constant)].append(constant)
                parts = [self._is_one_of(name, constants) for constants in kinds.values()]
                sql = " OR ".join(part for part, _ in parts) or "0"
                return f"({sql})", [x for _, bound in parts for x in bound]
            case ast.Constant(value=str(text)), ast.Name(id=name):
                if name == "path":
                    return _ANY_FILE.format("instr(f.path, ?) > 0"), [text]
                value, bound, type_sql = self._field(name)
                found = f"ifnull(CASE WHEN {type_sql} = 'text' THEN instr({value}, ?) > 0 END, 0)"
                return found, [*bound, *bound, text]
        problem = f"{ast.unparse(left)} in {ast.unparse(right)} is neither `name in (values)` nor `text in name`"
        raise self._error(problem)

    def _compare(self, name: str, operator: str, constant: float | str | bool | None) -> tuple[str, list[Any]]:
        if constant is None:
            if operator not in {"=", "<>"}:
                raise self._error("None can only be compared by == and !=")
            value, bound, _ = self._field(name)
            return f"{value} IS {'NOT ' if operator == '<>' else ''}NULL", bound
        return self._typed(name, f"{operator} ?", [constant])

    def _is_one_of(self, name: str, constants: list[Any]) -> tuple[str, list[Any]]:
        if constants[0] is None:
            return self._compare(name, "=", None)
        return self._typed(name, f"IN ({', '.join('?' * len(constants))})", constants)

    def _typed(self, name: str, test: str, constants: list[Any]) -> tuple[str, list[Any]]:
        """A test of a name's value against constants of one kind, which is false for a value of another kind."""
        if name == "path":
            if not isinstance(constants[0], str):
                raise self._error("path is compared with something that is no text")
            return _ANY_FILE.format(f"f.path {test}"), constants
        value, bound, type_sql = self._field(name)
        types = _TEXTS if isinstance(constants[0], str) else _NUMBERS
        if isinstance(constants[0], bool):  # JSON's true and false come out of SQLite as 1 and 0
            constants, types = [int(constant) for constant in constants], _BOOLEANS
        return f"ifnull({type_sql} IN {types} AND {value} {test}, 0)", [*bound, *bound, *constants]

    def _field(self, name: str) -> tuple[str, list[Any], str]:
        """SQL for a name's value, what it binds, and SQL for its type, which binds the same again."""
        if name in _COLUMNS:
            return _COLUMNS[name], [], f"typeof({_COLUMNS[name]})"
        return "json_extract(d.metadata, ?)", [f"$.{json.dumps(name)}"], "json_type(d.metadata, ?)"

    def _constant(self, node: ast.expr) -> float | str | bool | None:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                constant = value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                constant = -value
            case _:
                raise self._error(f"{ast.unparse(node)} is no number, text, True, False or None")
        if isinstance(constant, int) and not -(2**63) <= constant < 2**63:
            raise self._error(f"{constant} is too large a number")
        if isinstance(constant, str) and _holds_half_a_character(constant):
            raise self._error("a text holds half a character (a lone surrogate)")
        return constant

    def _error(self, problem: str) -> FilterError:
        return FilterError(self._expression, problem)


def _holds_half_a_character(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
