#!/usr/bin/env bash
# A plugin from nothing: begun, installed, checked, trained. Prints a transcript with times.
#
#   scripts/show_new_plugin.sh [PHOTOS]     PHOTOS: a folder with one folder of images per class;
#                                           without it, a small one is generated.
#
# Everything lies in a temporary folder, in an environment that borrows the packages of the one whose python runs this
# (PYTHON, else .venv/bin/python of the checkout, else python3).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=python3
photos=${1:+$(cd "$1" && pwd)}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export ZOO_CACHE=$folder/cache XDG_CONFIG_HOME=$folder/config
cd "$folder"

"$python" -m venv --without-pip environment
"$python" - "$folder" <<'PYTHON'
import sys, sysconfig
from pathlib import Path
version = f"python{sys.version_info.major}.{sys.version_info.minor}"
borrowed = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
Path(sys.argv[1], "environment", "lib", version, "site-packages", "borrowed.pth").write_text(borrowed)
PYTHON
outer=$python
python=$folder/environment/bin/python
export PATH=$folder/environment/bin:$PATH
zoo() { "$python" -m zoo "$@"; }
pip() { "$outer" -m pip --python "$python" "$@"; }

if [ -z "$photos" ]; then
    photos=$folder/shapes
    "$python" - "$photos" <<'PYTHON'
import sys
from pathlib import Path
import numpy
from PIL import Image
generator = numpy.random.default_rng(0)
y, x = numpy.mgrid[:64, :64] / 64 - 0.5
for name, shape in {"circle": x**2 + y**2 < 0.1, "cross": (abs(x) < 0.1) | (abs(y) < 0.1)}.items():
    Path(sys.argv[1], name).mkdir(parents=True)
    for i in range(40):
        dark, light = generator.uniform(0, 100, 3), generator.uniform(150, 255, 3)
        pixels = numpy.where(shape[..., None], dark, light) + generator.normal(0, 12, (64, 64, 3))
        Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(Path(sys.argv[1], name, f"{i:02d}.png"))
PYTHON
fi

begun=$(date +%s.%N)
show() {
    echo "\$ $*"
    local at
    at=$(date +%s.%N)
    "$@" 2>&1
    echo "  # $("$python" -c "import time; print(f'{time.time() - $at:.1f} s')")"
    echo
}

show zoo plugins new lab
show pip install --quiet --no-deps --no-build-isolation --no-index -e zoo-lab
show zoo plugins check lab --quiet
show zoo list 'lab/*'
show zoo finetune "$photos" --model lab/lab_net --epochs 15 --lr 0.01 --output run
show zoo predict run/model.safetensors "$(find "$photos" -type f \( -iname '*.png' -o -iname '*.jpg' -o -iname '*.jpeg' \) | sort | head -1)"
echo "From nothing to a prediction: $("$python" -c "import time; print(f'{time.time() - $begun:.1f} s')")."
