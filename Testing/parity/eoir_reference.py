"""What the public code of EOIR answers, for Testing/engine/models/eoir_reference.npz.

    git clone https://github.com/XiangChen1994/EOIR
    python Testing/parity/eoir_reference.py EOIR/LUMIR/src/docker Testing/engine/models/eoir_reference.npz

Weights and images follow from seeds (the test makes the same); the file holds every fourth value of the flows of an
8-channel network, in voxels and in the public code's own order of axes, for the pair and for the reversed pair.
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from engine.models.eoir_case import CHANNELS, SHAPE_XYZ, images_xyz, public_weights

sys.path.insert(0, sys.argv[1])
from EOIR import EOIR  # pyright: ignore[reportMissingImports]

network = EOIR(str(SHAPE_XYZ), str(CHANNELS)).eval()
network.load_state_dict(network.state_dict() | public_weights(CHANNELS))
moving, fixed = images_xyz()
with torch.no_grad():
    flows = [network(*pair, registration=True) for pair in ((moving, fixed), (fixed, moving))]
np.savez_compressed(sys.argv[2], flows=torch.cat(flows)[:, :, ::4, ::4, ::4].numpy())
