#!/usr/bin/env bash
# The pyramid paper's detector on one map and on three, and SSD300-VGG16, from a classifier's trunk to cards.
#
#   runs/detectors.sh KITTI CLASSIFIER [VGG16] [SEEDS] [key=value ...]
#
# KITTI         KITTI's object data with ImageSets/train.txt and val.txt
# CLASSIFIER    weights of a pyramid_mobilenet classifier with rates=capped, whose trunk the first two start from
#               (LONG=1 runs/caltech101.sh makes one); "-" starts them fresh
# VGG16         torchvision's VGG-16 of ImageNet, which SSD starts from; "-" starts it fresh
# SEEDS         seeds to train, default "0"
# key=value     overrides of every recipe: train.device=cuda on a GPU, train.epochs=2 for a try
#
# Steps of each detector: generated street scenes first, then KITTI from the weights of those. Cards: of the detector of
# the scenes on 500 unseen ones; of KITTI's on both of its splits, whose train is what it learnt by heart. Last, the time
# of a frame of all three in one process. Every training resumes where it was stopped.
# SSD takes ten times the work of the others: NETWORKS="pyramid_rpn pyramid_rpn_multi" in the environment leaves it out.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/train_once.sh"
kitti=$1 classifier=${2:--} vgg=${3:--} seeds=${4:-0}
shift $(($# < 4 ? $# : 4))
networks=${NETWORKS:-pyramid_rpn pyramid_rpn_multi ssd300_vgg16}
results=results/detectors

judge() { # name data split card options...
  local card=$results/$4.json
  [ -f "$card" ] || featherseg eval --weights "runs/$1/weights.safetensors" --data "$2" --split "$3" --card "$card" "${@:5}"
}

for seed in $seeds; do
  for network in $networks; do
    streets=streets_$network-seed$seed name=kitti_$network-seed$seed
    # The recipe's warm-up and average are of all 3,712 frames; a part of KITTI is over before them, and too few for
    # statistics of batch norm of their own.
    start=() of_streets=() of_kitti=(schedule.warmup=50 train.ema=0.99 train.freeze_bn=true)
    if [ "$network" = ssd300_vgg16 ]; then
      # Without batch norm it bears a tenth of the rate.
      of_streets=(model.arguments={} optimizer.lr=0.0001)
      of_kitti+=(model.arguments={} 'augment.crop=[375,1242]' optimizer.lr=0.001)
      [ "$vgg" = - ] || start=(start.encoder="$vgg")
    else
      [ "$classifier" = - ] || start=(start.encoder="$classifier")
    fi
    train_once "$streets" streets_pyramid_rpn train.seed="$seed" model.name="$network" "${start[@]}" "${of_streets[@]}" "$@"
    judge "$streets" streets test "$streets" --count 500
    train_once "$name" kitti_pyramid_rpn train.seed="$seed" model.name="$network" data.source="$kitti" "${of_kitti[@]}" \
      start.weights="runs/$streets/weights.safetensors" "$@"
    for split in train val; do judge "$name" "$kitti" "$split" "$name.$split"; done
  done
done
[ -f "$results/time.json" ] || python benchmarks/detectors.py --card "$results/time.json"
