"""The examples of docs/*.md, run. A page with blocks ```console is taken: "$ command" lines, each with its output.

In the output that a page shows, "…" in a line stands for anything in it, and a line that is "…" for one line or more: what differs by
machine, and what the reader need not see. All else is compared.

A block ```lua that begins with "-- NAME.lua" is written to that file first; one that no command names is compiled and must apply
without a warning. Commands run in a folder with links to the repository's. From the first that needs a compiler for gfx90a, which is
not everywhere, the rest of its page is skipped where there is none. REBASE=1 writes into the page what a command says if it does not fit, in full."""
import os, re, subprocess, tempfile

ROOT = os.getcwd()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def report(name, why=""):
    print(f"FAIL {name}: {' / '.join(why.split(chr(10)))}" if why else f"ok {name}", flush=True)


def shell(command, folder):
    done = subprocess.run(["bash", "-c", command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    return done.stdout


def console(text, folder):
    """The block's commands: what the page has of each, and what it gives now."""
    for chunk in re.split(r"^(?=\$ )", text, flags=re.M):
        if not chunk.startswith("$ "):
            if chunk:
                yield chunk, "(no command)\n"
            continue
        line = chunk.split("\n")[0]
        said = shell(line[2:], folder)
        yield chunk, line + "\n" + said + ("\n" if said and not said.endswith("\n") else "")


def pattern(lines):
    """A regular expression for output of which the page shows these lines."""
    return "".join("(?:.*\n)+?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + "\n" for line in lines)


def differs(want, got):
    lines, at = want.splitlines(), 0
    if re.fullmatch(pattern(lines), got):
        return ""
    for n, line in enumerate(lines):
        fits = re.match(pattern(lines[: n + 1]), got)
        if not fits:
            break
        at = fits.end()
    else:
        line = "(nothing)"
    return f"the page says {line}, it is {got[at:].split(chr(10))[0] or '(nothing)'} (REBASE=1 writes it)"


def compiles(arch):
    """Whether plans for arch can be made here, not only sources."""
    with tempfile.TemporaryDirectory() as folder:
        command = f"{ROOT}/out/gptoss-compile {ROOT}/graphs/toy.lua --arch {arch} --max-batch 2 --max-tokens 2"
        return "source only" not in shell(command, folder)


def lua(text, folder, page):
    name = re.match(r"-- (\w+\.lua)", text)
    if not name:
        return report(f"{page}/lua", f"a block without a name: {text[:60]}")
    with open(os.path.join(folder, name[1]), "w") as f:
        f.write(text)
    return name[1]


def run(path):
    page = os.path.basename(path)[:-3]
    text = open(path).read()
    blocks = list(BLOCK.finditer(text))
    if not any(b[1] == "console" for b in blocks):
        return
    commands = "".join(b[2] for b in blocks if b[1] == "console")
    new, at, rebase, without = "", 0, "REBASE" in os.environ, ""
    with tempfile.TemporaryDirectory() as folder:
        for d in ("out", "graphs", "lua", "templates", "models"):
            os.symlink(os.path.join(ROOT, d), os.path.join(folder, d))
        for b in blocks:
            got, where = b[2], f"{page}:{text.count(chr(10), 0, b.start()) + 2}"
            if "--arch gfx90a" in got and b[1] == "console" and not without and not compiles("gfx90a"):
                without = "no compiler for gfx90a is here"
            if without:
                print(f"skip {where}: {without}", flush=True)
            elif b[1] == "lua":
                name = lua(b[2], folder, page)
                if name and name not in commands:
                    report(f"{page}/{name}", shell(f"out/gptoss-compile graphs/tiny.lua --arch host --fusions {name}", folder))
            elif b[1] == "console":
                pairs = [(want, now, differs(want, now)) for want, now in console(b[2], folder)]
                report(where, "" if rebase else next((why for _, _, why in pairs if why), ""))
                got = "".join(now if why else want for want, now, why in pairs)
            new += text[at : b.start(2)] + got
            at = b.end(2)
    if rebase:
        open(path, "w").write(new + text[at:])


def sections():
    """What errors point to is there."""
    text = "".join(open(os.path.join("compiler", f)).read() for f in sorted(os.listdir("compiler")) if f.endswith(".c"))
    headings = re.findall(r"^## (.*)$", open("docs/fusions.md").read(), re.M)
    named = set(re.findall(r'SEE\("([^"]+)"\)', text) + re.findall(r'docs/fusions\.md, (\w[\w ]*)', text))
    lost = [n for n in named if not any(h.startswith(n) for h in headings)]
    report("fusions/sections", "no section " + ", ".join(lost) if lost else "" if len(named) > 4 else "errors point nowhere")


sections()
for page in sorted(os.listdir("docs")):
    if page.endswith(".md"):
        run(os.path.join("docs", page))
