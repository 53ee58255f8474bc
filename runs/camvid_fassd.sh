#!/usr/bin/env bash
# The CamVid networks of the FASSD-Net family, from nothing to shipped weights and cards.
#
#   runs/camvid_fassd.sh CAMVID TINY_IMAGENET [SEEDS] [key=value ...]
#
# CAMVID          CamVid 480x360 in the SegNet layout (367 train, 101 val, 233 test)
# TINY_IMAGENET   Tiny-ImageNet, train.zip and val.zip (or folders) of 64x64 images
# SEEDS           seeds to train, default "0"; "0 1 2" for a mean and a spread
# key=value       overrides of the CamVid recipes: train.epochs=1000 for the long schedule,
#                 train.device=cuda on a GPU
#
# Steps: the HarDNet trunk on Tiny-ImageNet; FASSD-Net and FASSD-Net-L2 from it on procedural street scenes; both from
# there on CamVid's train split, twice (the second recipe has other sampling and more augmentation); one look at test with
# the last averaged weights of each. Every step resumes where it was stopped. How long each took on two busy CPU cores:
# docs/papers/fassd_net.md, "Every attempt".
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/train_once.sh"
camvid=$1 tiny=$2 seeds=${3:-0}
shift $(($# < 3 ? $# : 3))

train_once tiny_imagenet_hardnet tiny_imagenet_hardnet data.source="$tiny"
for seed in $seeds; do
  for model in fassd_net fassd_net_l2; do
    streets=streets_$model-seed$seed first=camvid_$model-seed$seed name=camvid_${model}_continued-seed$seed
    train_once "$streets" "streets_$model" train.seed="$seed" start.encoder=runs/tiny_imagenet_hardnet/weights.safetensors
    train_once "$first" "camvid_$model" data.source="$camvid" train.seed="$seed" \
      start.weights="runs/$streets/weights.safetensors" "$@"
    train_once "$name" "camvid_${model}_continued" data.source="$camvid" train.seed="$seed" \
      start.weights="runs/$first/weights.safetensors" "$@"
    card=results/camvid/seeds/$name.json
    [ -f "$card" ] || featherseg eval --weights "runs/$name/weights.safetensors" --data "$camvid" --split test --card "$card"
  done
done
