#!/usr/bin/env bash
# The pyramid paper's classifiers on Caltech-101, from nothing to cards and a table of paired differences.
#
#   runs/caltech101.sh CALTECH101 [MOBILENET_V2] [SEEDS] [key=value ...]
#
# CALTECH101    a folder with 101_ObjectCategories/CLASS/*.jpg, or images/CLASS/*
# MOBILENET_V2  weights of a MobileNetV2 trained on ImageNet, to be fine-tuned; "-" to leave that out
# SEEDS         seeds to train, default "0"; each network is compared by the mean over them
# key=value     overrides of every recipe: train.device=cuda on a GPU,
#               'augment.crop=[192,192]' 'augment.view_size=[224,224]' for the paper's size
#
# One recipe for all networks, the same 2,000 test images for all of them and all seeds, one look at test with the last
# averaged weights of each. Every training resumes where it was stopped. About 45 minutes a network and seed on two cores.
# Last, with LONG=1 in the environment, pyramid_mobilenet by its long recipe, four times as long and judged by itself.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/train_once.sh"
caltech=$1 mobilenet=${2:--} seeds=${3:-0}
shift $(($# < 3 ? $# : 3))
networks="pyramid_mobilenet mobilenet_v2 mobilenet_v1 shufflenet_v1"  # the others are compared with the first
results=results/caltech101

train_and_judge() { # name recipe overrides...
  train_once "$1" "$2" data.source="$caltech" train.seed="$seed" "${@:3}"
  featherseg eval --weights "runs/$1/weights.safetensors" --data "$caltech" --split test \
    --card "$results/$1.json" --predictions "runs/$1/predictions.json"
}

for seed in $seeds; do
  for network in $networks; do
    train_and_judge "caltech101_$network-seed$seed" caltech101_scratch model.name="$network" "$@"
  done
  if [ "$mobilenet" != - ]; then
    train_and_judge "caltech101_mobilenet_v2_finetune-seed$seed" caltech101_mobilenet_v2_finetune start.encoder="$mobilenet" "$@"
  fi
done

compared=()
for network in $networks $([ "$mobilenet" = - ] || echo mobilenet_v2_finetune); do
  files=
  for seed in $seeds; do files+="${files:+,}runs/caltech101_$network-seed$seed/predictions.json"; done
  compared+=("$network=$files")
done
featherseg compare "${compared[@]}" --card "$results/paired.json"

if [ "${LONG:-0}" = 1 ]; then
  for seed in $seeds; do
    train_and_judge "caltech101_pyramid_mobilenet_long-seed$seed" caltech101_pyramid_mobilenet_long "$@"
  done
fi
