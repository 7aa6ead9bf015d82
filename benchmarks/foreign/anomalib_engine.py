"""Run anomalib's PaDiM by its engine: fit and predict an archive in MVTec's layout.

    python -m benchmarks.foreign.anomalib_engine ROOT WEIGHTS CROP

Prints images a second of both, and the AUROC of its image scores; then the same of its export to
OpenVINO. It has two threads and two loading processes, its fastest setting on two cores, and no
validation, visualisation, metrics or logging.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import openvino
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.models import Padim
from anomalib.pre_processing import PreProcessor
from torchvision.transforms import v2

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def main() -> None:
    """Measure and print."""
    root, weights, crop = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    logging.disable(logging.WARNING)
    torch.set_num_threads(2)
    torch.manual_seed(0)
    steps = [v2.Resize((256, 256), antialias=True), v2.CenterCrop(crop), v2.Normalize(MEAN, STD)]
    model = Padim(
        backbone="resnet18",
        pre_trained=False,
        n_features=100,
        pre_processor=PreProcessor(v2.Compose(steps)),
        post_processor=False,
        evaluator=False,
        visualizer=False,
    )
    state = torch.load(weights)
    model.model.feature_extractor.feature_extractor.load_state_dict(state, strict=False)
    data = Folder(
        name="archive",
        root=root,
        normal_dir="train/good",
        abnormal_dir=[f"test/{p.name}" for p in (root / "test").iterdir() if p.name != "good"],
        normal_test_dir="test/good",
        num_workers=2,
        val_split_mode="same_as_test",
    )
    data.setup()
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(
            accelerator="cpu",
            default_root_dir=folder,
            limit_val_batches=0,
            logger=False,
            enable_progress_bar=False,
        )
        began = time.perf_counter()
        engine.fit(model=model, datamodule=data)
        fitted = time.perf_counter()
        batches: Any = engine.predict(model=model, dataloaders=data.test_dataloader())
        ended = time.perf_counter()
        options = {"INFERENCE_NUM_THREADS": 2}
        exported = openvino.Core().compile_model(model.to_openvino(folder), "CPU", options)
        began_exported = time.perf_counter()
        again = [
            torch.from_numpy(exported(batch.image.numpy())["pred_score"].copy())
            for batch in data.test_dataloader()
        ]
        ended_exported = time.perf_counter()
    scores = torch.cat([batch.pred_score for batch in batches])
    labels = torch.cat([batch.gt_label for batch in batches]).bool()
    found = {
        "fit": len(data.train_data) / (fitted - began),
        "predict": len(data.test_data) / (ended - fitted),
        "openvino": len(data.test_data) / (ended_exported - began_exported),
        "auroc": _auroc(scores, labels),
        "openvino_auroc": _auroc(torch.cat(again).flatten(), labels),
    }
    print("\n" + json.dumps(found))


def _auroc(scores: torch.Tensor, labels: torch.Tensor) -> float:
    return float((scores[labels][:, None] > scores[~labels][None]).double().mean())


if __name__ == "__main__":
    main()
