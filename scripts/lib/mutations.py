# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutations of C code, for scripts/mutate.

libclang splits the code into tokens, so that comments, strings and preprocessor lines
are recognized. Only bodies of functions are altered. Includes need not be found, so
kernel code can be read as well.

Log messages are not altered, as no test must depend on their text.
"""
import dataclasses
import re

from clang import cindex

COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
LOGIC = {"&&": "||", "||": "&&"}
SIGNS = {"+=": "-=", "-=": "+=", "++": "--", "--": "++"}
BINARY_SIGNS = {"+": "-", "-": "+"}
BOOLEANS = {"true": "false", "false": "true"}

# Calls that only report, whose arguments are not altered.
REPORTS = re.compile(r"(log|pr|dev)_[a-z_]+$|trace_[a-z_]+$|perror$|NL_SET_ERR_MSG.*"
                     r"|WARN_ON.*|lockdep_.*|might_.*|BUILD_BUG_ON.*|static_assert$")

# Names of descriptors, and of structures of descriptors.
DESCRIPTOR = re.compile(r"(?!nr_)\w*fds?(_\w+)?$")

# Tokens before the beginning of a statement.
FOLLOWED_BY_STATEMENT = {";", "{", "}", "else", "do", ":"}


@dataclasses.dataclass(frozen=True)
class Mutation:
    """Replaces the bytes of a file from start to end by text.

    file, function, before and after identify the mutation, also after the code has
    moved. before and after are the whole lines, stripped of spaces. number
    distinguishes mutations that are otherwise the same. body has the first and the
    last line of the function.
    """
    file: str
    function: str
    kind: str
    start: int
    end: int
    text: str
    line: int
    before: str
    after: str
    number: int = 0
    body: tuple = (0, 0)

    def key(self):
        return (self.file, self.function, self.before, self.after, self.number)

    def apply(self, source):
        return source[:self.start] + self.text.encode() + source[self.end:]


class Token:
    """A token of libclang."""

    def __init__(self, token):
        self.text = token.spelling
        self.kind = token.kind.name
        self.start = token.extent.start.offset
        self.end = token.extent.end.offset
        self.line = token.extent.start.line


def tokens_of(path):
    """Return: the tokens of a file, without comments and preprocessor lines."""
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")
    directives = set()
    going_on = False
    for number, line in enumerate(lines, 1):
        if going_on or line.lstrip().startswith(b"#"):
            directives.add(number)
            going_on = line.endswith(b"\\")
    unit = cindex.Index.create().parse(path, args=["-std=c17", "-fsyntax-only"])
    tokens = [Token(token) for token in unit.get_tokens(extent=unit.cursor.extent)]
    return [token for token in tokens
            if token.kind != "COMMENT" and token.line not in directives]


def match_brackets(tokens):
    """Return: for each index of a bracket the index of its counterpart."""
    pairs, opened = {}, []
    closing = {")": "(", "]": "[", "}": "{"}
    for index, token in enumerate(tokens):
        if token.kind != "PUNCTUATION":
            continue
        if token.text in closing.values():
            opened.append(index)
        elif token.text in closing:
            begin = opened.pop()
            pairs[begin], pairs[index] = index, begin
    return pairs


def functions_of(tokens, pairs):
    """Yield: name, indices of the first and the last brace of each function."""
    index = 0
    while index < len(tokens):
        text = tokens[index].text
        if text == "{" and tokens[index - 1].text == ")":
            name = tokens[pairs[index - 1] - 1].text
            yield name, index, pairs[index]
        if text in ("{", "(", "["):
            index = pairs[index]
        index += 1


class File:
    """A file and its mutations."""

    def __init__(self, root, name):
        self.name = name
        path = f"{root}/{name}"
        with open(path, "rb") as file:
            self.source = file.read()
        self.tokens = tokens_of(path)
        self.pairs = match_brackets(self.tokens)
        self.reports = set()
        self.heads = set()
        self.found = []
        self.body = (0, 0)

    def mutations(self):
        for function, first, last in functions_of(self.tokens, self.pairs):
            self.find_reports(first, last)
            self.find_heads(first, last)
            self.body = (self.tokens[first].line, self.tokens[last].line)
            for index in range(first + 1, last):
                if index not in self.reports:
                    self.at(function, index)
        return self.numbered()

    def find_reports(self, first, last):
        """Find the calls that only report."""
        for index in range(first, last):
            token = self.tokens[index]
            if token.kind == "IDENTIFIER" and REPORTS.match(token.text) and \
                    self.tokens[index + 1].text == "(":
                self.reports |= set(range(index, self.pairs[index + 1] + 1))

    def find_heads(self, first, last):
        """Find the heads of "for" loops, which contain no statements."""
        for index in range(first, last):
            if self.tokens[index].text == "for":
                self.heads |= set(range(index + 1, self.pairs[index + 1] + 1))

    def at(self, function, index):
        """Add all mutations that begin with a token."""
        token = self.tokens[index]
        self.alter_token(function, index, token)
        if token.text == "return":
            self.alter_return(function, index)
        elif token.text in ("if", "while") and self.tokens[index + 1].text == "(":
            self.negate(function, index + 1)
        if index not in self.heads and self.begins_statement(index):
            self.drop(function, index)

    def alter_token(self, function, index, token):
        text = token.text
        if text in COMPARISONS:
            kind = "descriptor" if self.tests_descriptor(index) else "comparison"
            self.add(function, kind, index, index, COMPARISONS[text])
        elif text in LOGIC:
            self.add(function, "logic", index, index, LOGIC[text])
        elif text in SIGNS:
            self.add(function, "sign", index, index, SIGNS[text])
        elif text in BINARY_SIGNS and self.is_binary(index):
            self.add(function, "sign", index, index, BINARY_SIGNS[text])
        elif text in BOOLEANS:
            self.add(function, "constant", index, index, BOOLEANS[text])
        elif text == "!":
            self.add(function, "negation", index, index, "")
        elif token.kind == "LITERAL":
            number = re.fullmatch(r"(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]*", text)
            if number:
                zero = re.fullmatch(r"0[xX]?0*", number[1])
                kind = "descriptor" if self.tests_descriptor(index - 1) else "constant"
                self.add(function, kind, index, index,
                         "1" if zero else f"({text} - 1)")

    def tests_descriptor(self, index):
        """Return: whether a token compares a descriptor with 0, to see if it is there.

        Such a comparison is altered for descriptor 0 only, which an operator may pass
        in options, but which is never opened.
        """
        tokens = self.tokens
        if tokens[index].text not in ("<", ">=") or tokens[index + 1].text != "0":
            return False
        names = []
        while (before := tokens[index - 1]).text in ("->", ".", "]") or \
                before.kind == "IDENTIFIER":
            index = self.pairs[index - 1] if before.text == "]" else index - 1
            names.append(before.text)
        return "options" not in names and any(map(DESCRIPTOR.match, names))

    def is_binary(self, index):
        before = self.tokens[index - 1]
        return before.kind in ("IDENTIFIER", "LITERAL") or before.text in (")", "]")

    def alter_return(self, function, index):
        end = self.end_of_statement(index)
        words = [token.text for token in self.tokens[index + 1:end]]
        # alter_token() alters constants.
        if words and words[0] not in (*BOOLEANS, "0", "1", "NULL"):
            self.add(function, "return", index + 1, end - 1, "0")

    def negate(self, function, index):
        end = self.pairs[index]
        inside = self.text(index + 1, end - 1)
        if inside[0] == "!" and "&" not in inside and "|" not in inside:
            return
        self.add(function, "negation", index + 1, end - 1, f"!({inside})")

    def text(self, first, last):
        return self.source[self.tokens[first].start:self.tokens[last].end].decode()

    def end_of_statement(self, index):
        """Return: the index of the semicolon that ends a statement."""
        while self.tokens[index].text != ";":
            if self.tokens[index].text in ("(", "[", "{"):
                index = self.pairs[index]
            index += 1
        return index

    def begins_statement(self, index):
        token, before = self.tokens[index], self.tokens[index - 1]
        if token.kind != "IDENTIFIER" and token.text not in ("*", "++", "--"):
            return False
        if before.text == ")":
            head = self.tokens[self.pairs[index - 1] - 1].text
            return head in ("if", "for", "while") or "for_each" in head
        if before.text == ":":
            # The ":" of a label or a case, not of "a ? b : c".
            return token.line != before.line
        return before.text in FOLLOWED_BY_STATEMENT

    def drop(self, function, index):
        tokens, pairs = self.tokens, self.pairs
        following = tokens[index + 1]
        if tokens[index].kind == "IDENTIFIER":
            # A declaration or a label is not deleted.
            if following.kind in ("IDENTIFIER", "KEYWORD") or following.text == ":":
                return
            if following.text == "*" and tokens[index + 2].kind == "IDENTIFIER":
                return
        end = index
        while tokens[end].text != ";":
            if tokens[end].text in ("}", ",") or end + 1 >= len(tokens):
                return
            # The body of a loop macro is not deleted.
            if tokens[end].text == "{" and tokens[end - 1].text == ")" and \
                    "for_each" in tokens[pairs[end - 1] - 1].text:
                return
            if tokens[end].text in ("(", "[", "{"):
                end = pairs[end]
            end += 1
        self.add(function, "statement", index, end - 1, "")

    def add(self, function, kind, first, last, text):
        start, end = self.tokens[first].start, self.tokens[last].end
        begin = self.source.rfind(b"\n", 0, start) + 1
        stop = self.source.find(b"\n", end)
        altered = self.source[begin:start] + text.encode() + self.source[end:stop]
        self.found.append(Mutation(
            self.name, function, kind, start, end, text, self.tokens[first].line,
            one_line(self.source[begin:stop].decode()), one_line(altered.decode()),
            body=self.body))

    def numbered(self):
        seen, numbered = {}, []
        for mutation in self.found:
            name = mutation.key()
            number = seen.setdefault(name, 0)
            seen[name] += 1
            numbered.append(dataclasses.replace(mutation, number=number))
        return numbered


def one_line(text):
    return " ".join(text.split())
