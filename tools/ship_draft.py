"""Put a draft that `cascade distill` made into the package, examined in the form in which it is shipped.

    python tools/ship_draft.py my-draft

Its weights go into the repository: run it once, when the draft is as good as it will be.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cascade.lab.bench import draft as examination
from cascade.models.bundled import SHIPPED
from cascade.models.distill.exam import Exam
from cascade.models.distill.making import state_folder
from cascade.models.distill.shelf import put_on_shelf

MOST_BYTES = 20_000_000


def main(folder: Path) -> None:
    out = SHIPPED[examination.DRAFT].folder
    put_on_shelf(folder, out, {"stored_as": "int8 with a scale for each row"})
    # What the target answered when the draft was made is what the command would have it answer again.
    exam = Exam.load(state_folder(folder) / "exam.json")
    found = examination.examine(examination.DRAFT, examination.TARGET, exam, repeats=45)
    notes = {
        "stored_as": "int8 with a scale for each row",
        "held_out_prompts": found["held_out_prompts"],
        "agreement": found["agreement"],
        "step_time": found["step_time"],
    }
    num_bytes = put_on_shelf(folder, out, notes)
    print(json.dumps(notes, indent=1))
    print(f"{out}: {num_bytes:,} bytes, {'fits' if num_bytes <= MOST_BYTES else 'TOO LARGE'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
