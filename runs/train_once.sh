# Sourced by the scripts beside it.

train_once() { # name recipe overrides...: train, or go on with a run that was stopped, or skip one that is done
  local name=$1 recipe=$2
  shift 2
  [ -f "runs/$name/card.json" ] && return
  local resume=()
  if [ -f "runs/$name/checkpoint.safetensors" ]; then resume=(--resume); fi
  featherseg train "$recipe" "name=$name" "$@" "${resume[@]}"
}
