"""The figures that the paper printed, in per cent: pairs of pixel AUROC and PRO.

Each was found in at least one public quotation of the paper (`docs/paper.md` says where). What was
not found is None. No figure of another paper or of another backbone is here under its name.
"""

from __future__ import annotations

Pair = tuple[float | None, float | None]
Row = dict[str, Pair]
"""By category, ``textures``, ``objects`` or ``all``."""

TEXTURES, OBJECTS, ALL = "textures", "objects", "all"

LAYERS: dict[str, Row] = {
    "layer 1": {TEXTURES: (93.1, 87.1), OBJECTS: (95.6, None), ALL: (94.8, 86.8)},
    "layer 2": {TEXTURES: (95.0, 89.7), OBJECTS: (96.1, 87.9), ALL: (95.7, 88.5)},
    # The paper prints 95.7; its columns of textures and objects give 96.3.
    "layer 3": {TEXTURES: (94.8, 89.6), OBJECTS: (97.1, 87.7), ALL: (95.7, 88.3)},
    "layers 1 + 2 + 3": {TEXTURES: (95.4, 90.7), OBJECTS: (96.3, 88.1), ALL: (96.0, 89.0)},
    "PaDiM-R18": {TEXTURES: (96.3, 92.3), OBJECTS: (97.5, 90.1), ALL: (97.1, 90.8)},
}
"""Table I."""

DIMENSIONS: dict[str, Row] = {
    "PCA 100": {ALL: (93.5, 85.7)},
    "PCA 200": {},
    "Rd 100": {ALL: (96.7, 90.5)},
    "Rd 200": {ALL: (97.0, 90.5)},
    "all 448": {ALL: (97.1, 90.8)},
}
"""Table II."""

LOCALISATION: dict[str, Row] = {
    "AE-SSIM": {TEXTURES: (78.0, 56.7), OBJECTS: (91.0, 75.8), ALL: (87.0, 69.4)},
    "VAE": {TEXTURES: (61.2, 49.9), OBJECTS: (81.0, 71.4), ALL: (74.4, 64.2)},
    "Patch-SVDD": {TEXTURES: (93.7, None), OBJECTS: (96.7, None), ALL: (95.7, None)},
    # The paper prints 96.5; its columns of textures and objects give 96.0.
    "SPADE-WR50": {
        TEXTURES: (92.9, 88.4),
        OBJECTS: (97.6, 93.4),
        ALL: (96.5, 91.7),
        **{"carpet": (97.5, None), "grid": (93.7, None), "leather": (97.6, None)},
        **{"tile": (87.4, None), "wood": (88.5, None), "bottle": (98.4, None)},
        **{"cable": (97.2, None), "capsule": (99.0, None), "hazelnut": (99.1, None)},
        **{"metal_nut": (98.1, None), "pill": (96.5, None), "screw": (98.9, None)},
        **{"toothbrush": (97.9, None), "transistor": (94.1, None), "zipper": (96.5, None)},
    },
    "PaDiM-R18-Rd100": {
        TEXTURES: (95.6, 91.3),
        OBJECTS: (97.3, 89.4),
        ALL: (96.7, 90.1),
        **{"bottle": (98.1, 93.9), "grid": (94.9, None), "metal_nut": (96.7, None)},
        **{"screw": (97.4, None), "zipper": (98.2, None)},
    },
    "PaDiM-WR50-Rd550": {
        TEXTURES: (96.9, 93.2),
        OBJECTS: (97.8, 91.6),
        ALL: (97.5, 92.1),
        **{"carpet": (99.1, 96.2), "grid": (97.3, 94.6), "leather": (99.2, 97.8)},
        **{"tile": (94.1, 86.0), "wood": (94.9, 91.1), "bottle": (98.3, 94.8)},
        **{"cable": (96.7, 88.8), "capsule": (98.5, 93.5), "hazelnut": (98.2, 92.6)},
        **{"metal_nut": (97.2, 85.6), "pill": (95.7, 92.7), "screw": (98.5, 94.4)},
        **{"toothbrush": (98.8, 93.1), "transistor": (97.5, 84.5), "zipper": (98.5, 95.9)},
    },
}
"""Table III."""

CAMERAS = {"CAVGA-RU": 85.0, "SPADE-WR50": 89.9, "PaDiM-R18-Rd100": 91.2}
"""Table IV: pixel AUROC on ShanghaiTech Campus."""

DETECTION = {
    "Patch-SVDD": 92.1,
    "SPADE-WR50": 85.5,
    "MahalanobisAD-EfficientNet-B4": 95.8,
    "PaDiM-WR50-Rd550": 95.3,
    "PaDiM-EfficientNet-B5": 97.9,
}
"""Table V: image AUROC, all classes."""

TURNED: dict[str, Row] = {
    "VAE": {ALL: (62.1, None)},
    "SPADE-WR50": {ALL: (87.2, None)},
    "PaDiM-WR50-Rd550": {ALL: (92.2, 73.1)},
}
"""Table VI."""

SECONDS = {"SPADE-WR50": 7.10, "VAE": 0.21, "PaDiM-R18-Rd100": 0.23, "PaDiM-WR50-Rd550": 0.95}
"""Table VII: inference of an image on a processor (i7-4710HQ), serial."""

GIGABYTES = {
    "SPADE-WR50": (1.4, 37.0),
    "VAE": (0.09, None),
    "PaDiM-R18-Rd100": (0.17, 0.21),
    "PaDiM-WR50-Rd550": (3.8, 5.2),
}
"""Table VIII: parameters in float32, for MVTec AD and for ShanghaiTech Campus."""
