#!/usr/bin/env python3
"""mutations.py [--seed N] [--count N] [--share K/N] [--builds plain,asan,tsan] [--only FILE] [--in-place] [--list]

Plants one error at a time into the files of kernels/cuda and comm/nccl and tells which tests notice it. The errors are drawn,
with a seed that is printed, from a fixed list of operators applied to every line that they fit. Each is built and tested in
a copy of HEAD, plain first, then with address checks, then with race detection, until a test fails. One that no test finds
is equivalent or a gap in the tests: it is for a person to say which. Exit 1 where less than 95 % are found.
--share 1/2 and --share 2/2 judge the same mutations together, each in a folder of its own. --in-place plants them in this
checkout, whose builds need not be made then, and puts every line back.
"""
import argparse
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("kernels/cuda", "comm/nccl")
REPLACED = "kernels/cuda/device/"  # by the emulation's own
BUILDS = {"plain": "emulated", "asan": "emulated-asan", "tsan": "emulated-tsan"}


def deleted(pattern):
    return lambda line: [""] if re.search(pattern, line) else []


def replaced(pattern, by):
    """One result for each place where the pattern stands."""
    return lambda line: [line[: m.start()] + m.expand(by) + line[m.end():] for m in re.finditer(pattern, line)]


# Name, what it makes of a line: a list of other lines.
OPERATORS = [
    ("deleted barrier", deleted(r"^\s*__sync(threads|warp)\(\);")),
    ("off by one", replaced(r"(?<=[\w\])]) < (?=[\w(])", " <= ")),
    ("off by one", replaced(r"(?<=[\w\])]) >= (?=[\w(])", " > ")),
    ("off by one", replaced(r"(?<=[\w\])]) ([+-]) 1\b(?!\.)", "")),
    ("dropped initialisation", replaced(r"(?<=[\w\])]) = 0;", " = 1;")),
    ("dropped initialisation", deleted(r"^\s*[\w.\->\[\] ]+\[[^=]*\] = (0|0\.0f|-1);")),
    ("missing event wait", deleted(r"^\s*[\w.\->\[\]()]*(hold_back|record|wait)\([^)]*\);")),
    ("wrong count", replaced(r"(?<=blocks_for\()(?!int64_t)(\w+)", r"\1 - 1")),
    ("wrong count", replaced(r"(\w+\.rows\b(?:\(\))?)(?= \*| \+|,|\))", r"(\1 - 1)")),
    ("swapped operand", replaced(r"\b(\w+) - (\w+)\b", r"\2 - \1")),
    ("swapped operand", replaced(r"\((\w+), (\w+)\)(?=;)", r"(\2, \1)")),
    ("atomic made plain", replaced(r"atomic(Add|Max|Min)\(&([^,]+), ([^)]+)\)", r"(\2 += \3)")),
]


def mutants():
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in (".cu", ".cpp", ".h") or str(path.relative_to(ROOT)).startswith(REPLACED):
                continue
            for number, line in enumerate(path.read_text().split("\n")):
                code = line.split("//")[0]
                if not code.strip() or code.lstrip().startswith(("#", "template", "*")) or "check" in code or "static_assert" in code:
                    continue
                for operator, change in OPERATORS:
                    for result in change(code):
                        if result.strip() != code.strip():
                            found.append((str(path.relative_to(ROOT)), number, operator, line, result))
    return found


def draw(found, count, seed):
    """From every operator in turns, so that rare ones are not lost among the common, and from the files drawn least so far."""
    rng = random.Random(seed)
    by_operator = {}
    for mutant in found:
        by_operator.setdefault(mutant[2], []).append(mutant)
    for group in by_operator.values():
        rng.shuffle(group)
    drawn, from_file = [], dict.fromkeys((mutant[0] for mutant in found), 0)
    while len(drawn) < count and any(by_operator.values()):
        for group in by_operator.values():
            if group and len(drawn) < count:
                mutant = min(group, key=lambda it: from_file[it[0]])
                group.remove(mutant)
                from_file[mutant[0]] += 1
                drawn.append(mutant)
    return drawn


def run(command, folder, limit):
    """Exit code and output; 124 where it took longer, with all that it started."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", OMPI_MCA_mpi_yield_when_idle="1", CUDA_EMULATION_DEVICES="4", GTEST_FAIL_FAST="1", GTEST_BRIEF="1",
                       ASAN_OPTIONS="detect_leaks=0")
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
    try:
        output, _ = process.communicate(timeout=limit)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return 124, process.communicate()[0]


def tests_of(build):
    """What is run in a build's folder, the quickest first."""
    ranks = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np"]
    kernels = [["tests/cuda/cuda_kernels_test"]]
    if build == "tsan":  # which knows neither MPI's threads nor its shared memory
        return kernels
    kernels.append(["tests/cuda/cuda_beside_cpu_test"])
    return kernels + [ranks + [n, "tests/cuda/comm/cuda_comm_test"] for n in ("2", "3")] + [["tests/cuda/train/cuda_train_test"], ["tests/cuda/model/cuda_model_test"]]


def targets_of(build):
    return ["cuda_kernels_test"] if build == "tsan" else ["cuda_kernels_test", "cuda_beside_cpu_test", "cuda_comm_test", "cuda_train_test", "cuda_model_test"]


def failing(output, code):
    name = re.search(r"\[  FAILED  \] (\S+)", output)
    if name:
        return name.group(1).rstrip(",")
    for word in ("ThreadSanitizer", "AddressSanitizer", "runtime error", "CUDA emulation"):
        if word in output:
            return word
    return "no answer in time" if code == 124 else f"exit code {code}"


class Bench:
    """A source tree with its builds."""

    def __init__(self, tree, builds):
        self.tree, self.builds = tree, builds

    def fill(self):
        """With HEAD and builds that are configured."""
        self.tree.mkdir()
        archive = subprocess.Popen(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", self.tree], stdin=archive.stdout, check=True)
        for build in self.builds:
            subprocess.run(["cmake", "--preset", BUILDS[build]], cwd=self.tree, check=True, stdout=subprocess.DEVNULL)

    def build(self, build):
        return run(["ninja", "-C", f"build-{BUILDS[build]}", *targets_of(build)], self.tree, 3600)

    def test(self, build):
        """Who noticed, or None."""
        for command in tests_of(build):
            code, output = run(command, self.tree / f"build-{BUILDS[build]}", 600)
            if code != 0:
                return failing(output, code)
        return None

    def judge(self, mutant):
        path, number, _, _, result = mutant
        file = self.tree / path
        whole = file.read_text()
        lines = whole.split("\n")
        lines[number] = result
        file.write_text("\n".join(lines))
        try:
            for build in self.builds:
                code, _ = self.build(build)
                if code != 0:
                    return "the compiler", "does not build"
                by = self.test(build)
                if by is not None:
                    return build, by
            return None, None
        finally:
            file.write_text(whole)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--share", default="1/1", help="K/N: every N-th mutation, from the K-th")
    parser.add_argument("--builds", default="plain,asan,tsan")
    parser.add_argument("--only", default="", help="files whose path holds this")
    parser.add_argument("--in-place", action="store_true", help="in this checkout and its builds, not in a copy of HEAD")
    parser.add_argument("--list", action="store_true", help="show what would be planted")
    arguments = parser.parse_args()
    found = [mutant for mutant in mutants() if arguments.only in mutant[0]]
    drawn = draw(found, 4 * arguments.count, arguments.seed)  # those that do not build are replaced
    print(f"seed {arguments.seed}: {len(found)} possible mutations, {arguments.count} to be judged", flush=True)
    if arguments.list:
        for path, number, operator, line, result in drawn[: arguments.count]:
            print(f"{path}:{number + 1}: {operator}\n  - {line.strip()}\n  + {result.strip()}")
        return 0
    part, parts = (int(number) for number in arguments.share.split("/"))
    builds = [build for build in BUILDS if build in arguments.builds.split(",")]
    if arguments.in_place:
        return judge_all(Bench(ROOT, builds), drawn[part - 1 :: parts], -(-arguments.count // parts))
    with tempfile.TemporaryDirectory(prefix="switchyard-mutations.") as folder:
        bench = Bench(pathlib.Path(folder) / "tree", builds)
        bench.fill()
        return judge_all(bench, drawn[part - 1 :: parts], -(-arguments.count // parts))


def judge_all(bench, drawn, count):
    """The exit code."""
    for build in bench.builds:
        code, output = bench.build(build)
        noticed = output[-2000:] if code != 0 else bench.test(build)
        if noticed is not None:
            print(f"without any mutation the {build} build fails: {noticed}")
            return 1
    judged, survived = 0, []
    for mutant in drawn:
        if judged == count:
            break
        begin = time.monotonic()
        build, by = bench.judge(mutant)
        if build == "the compiler":
            continue
        judged += 1
        path, number, operator, line, result = mutant
        verdict = f"{build}: {by}" if build else "SURVIVED"
        print(f"{judged:3} {path}:{number + 1} {operator}: `{line.strip()}` -> `{result.strip()}` | {verdict} | {time.monotonic() - begin:.0f} s", flush=True)
        if build is None:
            survived.append(mutant)
    print(f"{judged - len(survived)} of {judged} found")
    return 0 if judged and len(survived) <= 0.05 * judged else 1


if __name__ == "__main__":
    sys.exit(main())
