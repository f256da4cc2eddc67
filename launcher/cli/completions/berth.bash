# Completion of `berth` for bash.
_berth() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} verb='' i
  local global='--policy --state --node-name --sysfs --json --verbose --help --version'
  local verbs='capture devices doctor gres leases park plan policy repair run stats unpark version'

  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      --policy | --state | --node-name | --sysfs) ((i++)) ;;
      -*) ;;
      *)
        verb=${COMP_WORDS[i]}
        break
        ;;
    esac
  done

  case $previous in
    --policy | --topology | --node | --svg | --container | --xml | --problem | --prometheus) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --state | --sysfs | --workdir) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    --pin) mapfile -t COMPREPLY < <(compgen -W 'off cpus cpus+mem' -- "$word"); return ;;
    --order) mapfile -t COMPREPLY < <(compgen -W 'locality balance' -- "$word"); return ;;
    --shortage) mapfile -t COMPREPLY < <(compgen -W 'fail share some' -- "$word"); return ;;
    --net) mapfile -t COMPREPLY < <(compgen -W 'rank node host' -- "$word"); return ;;
    --node-name | --pool | --mount | --env | --wait | --devices | --gpus | --ranks | -n | --vfs | --cpu-mask | --slurm-job | --gres | --job | --watch) return ;;
  esac

  if [[ $verb == @(park|unpark) && $word == /* ]]; then # an image
    compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$word")
    return
  fi
  local words=''
  case $verb in
    '') words="$verbs $global" ;;
    plan)
      words="--ranks --node --slurm-job --svg --explain --compare --cpu-mask --gres --topology --xml --vfs --problem --order --shortage --container --pool --mount --env --workdir --pin --net --devices --gpus --onload --share --wait --stats $global"
      if [[ $word != -* ]]; then
        compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
      fi
      ;;
    run)
      words="--pool --mount --env --workdir --pin --net --devices --gpus --onload --share --wait --stats --verbose --help"
      if [[ $word != -* ]]; then
        compopt -o filenames && mapfile -t COMPREPLY < <(compgen -W none -- "$word"; compgen -f -- "$word")
        return
      fi
      ;;
    devices) words="--node $global" ;;
    capture) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    policy)
      words="check $global"
      if [[ $previous == check ]]; then
        compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
      fi
      ;;
    park) words="--boot $global" ;;
    unpark)
      # Parked devices are files of the lease directory, which everybody may list.
      words="--all $(cd /run/berth/leases 2>/dev/null && compgen -f) $global"
      ;;
    repair) words="--job $global" ;;
    stats)
      # Records of leases are for everybody to read.
      words="--watch --prometheus $(sed -n 's/^ *"job": \([1-9][0-9]*\),*$/\1/p' /run/berth/leases/* 2>/dev/null | sort -u) $global"
      ;;
    *) words=$global ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _berth berth
