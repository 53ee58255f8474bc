#!/usr/bin/env bash
# DRBANet and the mobile DeepLab networks on CamVid, from nothing or from ImageNet trunks to cards.
#
#   runs/camvid_mobile.sh CAMVID MOBILENET_V2 EFFICIENTNET_LITE0 [SEEDS] [key=value ...]
#
# CAMVID              CamVid 480x360 in the SegNet layout (367 train, 101 val, 233 test)
# MOBILENET_V2        weights of a MobileNetV2 trained on ImageNet (a key layout that `featherseg import` reads)
# EFFICIENTNET_LITE0  weights of an EfficientNet-Lite0 trained on ImageNet
# SEEDS               seeds to train, default "0"; "0 1 2" for a mean and a spread
# key=value           overrides of every recipe: train.epochs=1000 for the long schedule, train.device=cuda on a GPU
#
# One look at test with the last averaged weights of each. Every training resumes where it was stopped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/train_once.sh"
camvid=$1 mobilenet=$2 lite=$3 seeds=${4:-0}
shift $(($# < 4 ? $# : 4))

train() { # recipe overrides...
  train_once "$1-seed$seed" "$1" data.source="$camvid" train.seed="$seed" "${@:2}"
}

judge() { # recipe: the one look at test
  local name=$1-seed$seed card=results/camvid/seeds/$1-seed$seed.json
  [ -f "$card" ] || featherseg eval --weights "runs/$name/weights.safetensors" --data "$camvid" --split test --card "$card"
}

for seed in $seeds; do
  train camvid_drbanet "$@"
  train camvid_shufflenet_v2_dpc "$@"
  train camvid_mobilenet_v2_dpc start.encoder="$mobilenet" "$@"
  train camvid_efficientnet_lite0_dpc start.encoder="$lite" "$@"
  for recipe in camvid_drbanet camvid_shufflenet_v2_dpc camvid_mobilenet_v2_dpc camvid_efficientnet_lite0_dpc; do
    train "${recipe}_continued" start.weights="runs/$recipe-seed$seed/weights.safetensors" "$@"
  done
  for network in drbanet shufflenet_v2_dpc mobilenet_v2_dpc efficientnet_lite0_dpc; do
    judge "camvid_${network}_continued"
  done
done
