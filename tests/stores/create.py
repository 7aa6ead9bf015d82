"""A process that creates files with several threads; it prints those that it has created."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from padim_dist.storage import Folder

THREADS = 6

if __name__ == "__main__":
    url, options, files, me = sys.argv[1:]
    folder = Folder(url, json.loads(options))
    folder.exists("anything")  # connected
    print("ready", flush=True)
    sys.stdin.readline()
    tasks = product(range(int(files)), range(THREADS))

    def create(task: tuple[int, int]) -> str | None:
        name, content = f"file-{task[0]}.json", f"{me} {task[1]}"
        return f"{name} {content}" if folder.create(name, content.encode()) else None

    with ThreadPoolExecutor(THREADS) as pool:
        print(json.dumps([made for made in pool.map(create, tasks) if made]))
