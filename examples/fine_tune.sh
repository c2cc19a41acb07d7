#!/bin/sh
# Go on from a member on the Hub with a folder of your own images: benign/NAME.png, benign/NAME_mask.png, malignant/...
#   sh examples/fine_tune.sh owner/bus-ensemble-resnet50 resnet50 my_images runs/mine --epochs 5
set -eu
from=$1 backbone=$2 data=$3 output=$4
shift 4
exec accelerate launch train_accelerate.py --init_from "$from" --backbone "$backbone" --data "$data" --output "$output" \
    --lr 0.0003 "$@"
