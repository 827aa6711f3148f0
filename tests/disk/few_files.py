"""The small job with so few open files allowed that some open of its store fails: for every such number.

`python -m disk.few_files KIND FOLDER` prints the exit codes in order of the number, and what was wrong.
"""

import json
import resource
import shutil
import sys
from pathlib import Path

from disk.every_call import judge, names, resume
from disk.small_job import KINDS, Kind, live

# More than any of the stores needs for twelve tiles.
MORE_FILES_MAX = 40


def few_files(kind: Kind, root: Path) -> tuple[list[int], list[str]]:
    undisturbed = root / "undisturbed"
    undisturbed.mkdir()
    live(kind, undisturbed)
    codes, wrong = [], []
    for more in range(MORE_FILES_MAX):
        folder = root / str(more)
        folder.mkdir()

        def limit(thread: int, more: int = more) -> None:
            # Numbers are given from the lowest that is free, and stay below the limit.
            taken = {int(link.name) for link in Path(f"/proc/{thread}/fd").iterdir()}
            free = [number for number in range(len(taken) + MORE_FILES_MAX + 1) if number not in taken]
            resource.prlimit(thread, resource.RLIMIT_NOFILE, (free[more], free[more]))

        life = live(kind, folder, limit)
        found = judge(kind, folder, life, "EMFILE") + resume(kind, folder, life, names(undisturbed), "")
        codes.append(life.code)
        wrong += [f"{more} more files: {what}" for what in found]
        shutil.rmtree(folder)
        if life.code == 0:
            break
    return codes, wrong


if __name__ == "__main__":
    kind_name, place = sys.argv[1:]
    print(json.dumps(few_files(KINDS[kind_name], Path(place))))
