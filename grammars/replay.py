#!/usr/bin/env python3
"""Measures how far a server's diagnostics can be trusted about unfinished programs.

Every program is typed in line by line. After each line the prefix is closed (`cargo build --release -p lang --example prefixes`), shown to
the real server, and the diagnostics that start inside the prefix are noted with whether their statement was settled. A diagnostic
persists if the whole program still has the same code at the same place. A share of the programs gets one wrong token first (a misspelt
name or member, a literal of another type), so that there is something to find.

    replay.py --server ty     --prefixes BIN --tool .tools/bin/ty  --seed 1 --count 300 FILE.py…
    replay.py --server tsc    --prefixes BIN --tool .tools/bin/tsc --seed 1 --count 300 FILE.ts…

Prints the table of codes (persistence settled and unsettled). --write POLICY.toml writes the policy that follows from it; --policy
POLICY.toml tells the false alarms and the detection of a policy, which should be learnt on other programs.
"""
import argparse, collections, json, os, pathlib, random, re, subprocess, tempfile, time, tomllib

ARGUMENTS = {"ty": ["server"], "tsc": ["--lsp", "--stdio"]}
LINES_MAX = 300
# A code is definite from this persistence on, and from this many samples; a function's end is told with less certainty.
PERSISTENCE_MIN, FUNCTION_PERSISTENCE_MIN, SAMPLE_MIN = 0.97, 0.9, 3
# Codes whose range is a whole member access, of which the member is to blame.
MEMBERS = {"missing-attribute", "missing-union-attribute", "possibly-missing-attribute", "missing-module-member", "possibly-missing-submodule"}
# Members of words and numbers that a mutation may touch.
MUTATIONS = {
    "member": re.compile(r"\.([a-z_]{4,})\b"),
    "name": re.compile(r"(?<![.\w'\"])([a-z_]{5,})\b(?!\s*[=:])"),
    "number": re.compile(r"(?<![\w.'\"])(\d+)(?![\w.'\"])"),
}


class Server:
    def __init__(self, tool, name, root):
        self.child = subprocess.Popen([tool, *ARGUMENTS[name]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=root)
        self.id = 0
        capabilities = {"textDocument": {"diagnostic": {"dynamicRegistration": False}}, "general": {"positionEncodings": ["utf-8", "utf-16"]}}
        uri = pathlib.Path(root).as_uri()
        answer = self.request("initialize", {"processId": os.getpid(), "rootUri": uri, "capabilities": capabilities, "workspaceFolders": [{"uri": uri, "name": "w"}]})
        self.utf8 = answer["capabilities"].get("positionEncoding") == "utf-8"
        self.notify("initialized", {})

    def write(self, message):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.child.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.child.stdin.flush()

    def read(self):
        length = 0
        while line := self.child.stdout.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return json.loads(self.child.stdout.read(length))

    def notify(self, method, params):
        self.write({"method": method, "params": params})

    def request(self, method, params):
        self.id += 1
        self.write({"id": self.id, "method": method, "params": params})
        while True:
            message = self.read()
            if "method" in message and "id" in message:
                items = message.get("params", {}).get("items", []) if message["method"] == "workspace/configuration" else None
                self.write({"id": message["id"], "result": None if items is None else [None] * len(items)})
            elif message.get("id") == self.id and "method" not in message:
                if "error" in message:
                    raise RuntimeError(message["error"])
                return message["result"]

    def check(self, uri, version, text):
        self.notify("textDocument/didChange", {"textDocument": {"uri": uri, "version": version}, "contentChanges": [{"text": text}]})
        started = time.perf_counter()
        answer = self.request("textDocument/diagnostic", {"textDocument": {"uri": uri}})
        self.seconds = time.perf_counter() - started
        lines = text.split("\n")
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line.encode()) + 1)
        found = []
        for item in answer.get("items", []):
            at = item["range"]["start"]
            line = lines[min(at["line"], len(lines) - 1)]
            column = at["character"] if self.utf8 else len(line.encode("utf-16-le")[: 2 * at["character"]].decode("utf-16-le", "ignore").encode())
            found.append((str(item.get("code", "")), starts[at["line"]] + column, item.get("severity", 1)))
        return found


class Prefixes:
    def __init__(self, tool):
        self.child = subprocess.Popen([tool], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **question):
        self.child.stdin.write(json.dumps(question) + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())


def mutated(text, kind, rng):
    places = list(MUTATIONS[kind].finditer(text))
    if not places:
        return None
    place = rng.choice(places)
    word = place.group(1)
    new = f'"{word}"' if kind == "number" else word[:2] + "zq" + word[2:]
    return text[: place.start(1)] + new + text[place.end(1) :]


def programs(paths, count, rng):
    rng.shuffle(paths)
    made = 0
    for path in paths:
        try:
            text = pathlib.Path(path).read_text()
        except (UnicodeDecodeError, OSError):
            continue
        if not 8 <= text.count("\n") <= LINES_MAX or "\r" in text:
            continue
        kind = rng.choice(["none", *MUTATIONS])
        text = text if kind == "none" else mutated(text, kind, rng)
        if text:
            yield path, kind, text
            made += 1
        if made == count:
            return


def replay(server, prefixes, uri, path, text, times):
    """Every diagnostic of every prefix: {(code, at): [line where first seen, line where first settled, severity, scopes over]}, and the final ones."""
    version = [2]

    def check(whole):
        version[0] += 1
        return server.check(uri, version[0], whole)

    server.notify("textDocument/didOpen", {"textDocument": {"uri": uri, "languageId": "python" if path.endswith(".py") else "typescript", "version": 1, "text": text}})
    final = {(code, at): severity for code, at, severity in check(text)}
    lines = text.split("\n")
    seen = {}
    end = 0
    for index, line in enumerate(lines):
        end += len(line.encode()) + 1
        if not line.strip() or index + 1 == len(lines):
            continue
        prefix = "\n".join(lines[: index + 1]) + "\n"
        whole = prefix + prefixes.ask(op="close", path=path, text=prefix)["close"]
        found = [item for item in check(whole) if item[1] < end]
        times.append(server.seconds)
        following = next((other for other in lines[index + 1 :] if other.strip()), "")
        states = prefixes.ask(op="settled", path=path, text=whole, end=end, next=following, at=[at for _, at, _ in found])["settled"] if found else []
        for (code, at, severity), state in zip(found, states):
            note = seen.setdefault((code, at), {"first": index, "statement": None, "block": None, "function": None, "severity": severity})
            for scope in ("statement", "block", "function"):
                if state[scope] and note[scope] is None:
                    note[scope] = index
    server.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    return seen, final


def flagged(policy, code, note):
    if note["severity"] > 2:
        return None
    kind = policy.get("code", {}).get(code, {}).get("class", policy.get("error") if note["severity"] == 1 else policy.get("warning"))
    if kind == "definite":
        return note["statement"]
    if isinstance(kind, dict) and kind["deferred"] in ("statement", "block", "function"):
        return note[kind["deferred"]]
    return None


def main():
    parser = argparse.ArgumentParser()
    for name in ("server", "prefixes", "tool", "policy", "write"):
        parser.add_argument("--" + name)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--out")
    parser.add_argument("--config", help="a file to copy into the project (tsconfig.json)")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    prefixes = Prefixes(options.prefixes)
    policy = tomllib.loads(pathlib.Path(options.policy).read_text()) if options.policy else None
    codes = collections.defaultdict(collections.Counter)
    totals, times, lags = collections.Counter(), [], []
    with tempfile.TemporaryDirectory() as root:
        if options.config:
            pathlib.Path(root, os.path.basename(options.config)).write_bytes(pathlib.Path(options.config).read_bytes())
        server = Server(options.tool, options.server, root)
        for number, (path, kind, text) in enumerate(programs(options.files, options.count, rng)):
            extension = pathlib.Path(path).suffix
            target = pathlib.Path(root, f"program{number}{extension}")
            target.write_text(text)
            seen, final = replay(server, prefixes, target.as_uri(), str(target), text, times)
            target.unlink()
            wrong = {key for key, severity in final.items() if severity == 1}
            totals["programs", bool(wrong)] += 1
            for key, note in seen.items():
                for scope in ("statement", "block", "function"):
                    if note[scope] is not None:
                        codes[key[0], note["severity"]][scope] += 1
                        codes[key[0], note["severity"]][scope + " kept"] += key in final
                codes[key[0], note["severity"]]["seen"] += 1
                codes[key[0], note["severity"]]["seen kept"] += key in final
            if options.out:
                with open(options.out, "a") as out:
                    print(json.dumps({"path": path, "kind": kind, "seen": [[*key, note] for key, note in seen.items()], "final": [[*key, severity] for key, severity in final.items()]}), file=out)
            if policy:
                judge(policy, seen, final, wrong, totals, lags)
    report(codes, totals, times, lags, policy)
    if options.write:
        write(options, codes, totals, times)


def write(options, codes, totals, times):
    name = subprocess.run([options.tool, "--version"], capture_output=True, text=True).stdout.strip()
    lines = [
        f"# Written by grammars/replay.py from a replay with {name}: {totals['programs', False]} programs without errors and",
        f"# {totals['programs', True]} with (misspelt names and members, literals of another type, and what was there), {len(times)} checks.",
        "# persistence: the share of settled diagnostics of that code that the whole program still had; sample: of how many.",
        'error = { deferred = "file" }',
        'warning = "ignore"',
    ]
    for (code, severity), row in sorted(codes.items()):
        if severity > 2 or row["statement"] < SAMPLE_MIN or not code:
            continue
        kept = {scope: row[scope + " kept"] / row[scope] if row[scope] >= SAMPLE_MIN else 0 for scope in ("statement", "block", "function")}
        if severity == 2:
            kind = '"ignore"'
        elif kept["statement"] >= PERSISTENCE_MIN:
            kind = '"definite"'
        elif kept["function"] >= FUNCTION_PERSISTENCE_MIN and row["function"] >= row["block"]:
            kind = '{ deferred = "function" }'
        elif kept["block"] >= PERSISTENCE_MIN:
            kind = '{ deferred = "block" }'
        else:
            kind = '{ deferred = "file" }'
        blame = ', blame = "member"' if code in MEMBERS else ""
        lines.append(f'code."{code}" = {{ class = {kind}{blame}, persistence = {kept["statement"]:.3f}, sample = {row["statement"]} }}')
    pathlib.Path(options.write).write_text("\n".join(lines) + "\n")


def judge(policy, seen, final, wrong, totals, lags):
    alarms = {key: line for key, note in seen.items() if (line := flagged(policy, key[0], note)) is not None}
    totals["false alarms", "programs"] += any(key not in final for key in alarms)
    totals["false alarms", "programs without errors"] += not wrong and any(key not in final for key in alarms)
    if wrong:
        totals["caught", "programs"] += any(key in wrong for key in alarms)
        totals["caught", "diagnostics"] += sum(key in alarms for key in wrong)
        totals["all", "diagnostics"] += len(wrong)
        lags += [alarms[key] - seen[key]["first"] for key in wrong if key in alarms]


def report(codes, totals, times, lags, policy):
    print(f"programs without errors {totals['programs', False]}, with errors {totals['programs', True]}, checks {len(times)}")
    times.sort()
    if times:
        print(f"check p50 {1e3 * times[len(times) // 2]:.1f} ms, p99 {1e3 * times[len(times) * 99 // 100]:.1f} ms")
    print("code severity   settled kept | block kept | function kept | any kept")
    for (code, severity), row in sorted(codes.items(), key=lambda item: -item[1]["seen"]):
        cells = [f"{row[scope]:5} {row[scope + ' kept'] / row[scope] if row[scope] else float('nan'):6.3f}" for scope in ("statement", "block", "function", "seen")]
        print(f"{code:40} {severity} " + " | ".join(cells))
    if policy:
        for key, value in sorted(totals.items(), key=str):
            print(*key, value)
        lags.sort()
        if lags:
            print(f"lag in lines p50 {lags[len(lags) // 2]}, p90 {lags[len(lags) * 9 // 10]}, max {lags[-1]}")


main()
