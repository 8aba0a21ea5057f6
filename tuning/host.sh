#!/usr/bin/env bash
# Shows, sets and restores what Backstop wants of a Linux host.
#
#   tuning/host.sh check  [--interface IF]...   what is, what should be, why; changes nothing;
#                                               exits with 1 where something should change
#   tuning/host.sh apply  [--interface IF]...   sets it, after noting what was; may be repeated
#   tuning/host.sh revert                       puts back exactly what was before the first apply
#
#   --xdp          also what AF_XDP wants of the cards (nic-xdp.conf)
#   --busy-poll    also what its busy-poll wants (nic-busy-poll.conf)
#   --state FILE   where former values are kept (/var/lib/backstop/tuning.saved)
#
# Kernel settings come from backstop.sysctl.conf, those of network cards from nic.conf. New rings
# and queues take a card off the network for a moment. What a host lacks is passed over.
# Nothing survives a reboot: run "apply" from a unit, or copy the sysctl file to /etc/sysctl.d.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# Tests point this at a folder with files of the same names; empty on a real host.
root=${BACKSTOP_TUNING_ROOT:-}
state=/var/lib/backstop/tuning.saved
interfaces=()
profiles=(nic.conf)

die() { echo "host.sh: $*" >&2; exit 1; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit "${1:-0}"; }

# --- one setting: an id "kind:what[:key]", read by `now`, written by `put` -----------------------

file_of() { # id -> its file under /proc or /sys, for the kinds that are files
    local what=${1#*:}
    case $1 in
        sysctl:*) echo "$root/proc/sys/${what//.//}" ;;
        governor:*) echo "$root/sys/devices/system/cpu/$what/cpufreq/scaling_governor" ;;
        irq:*) echo "$root/proc/irq/$what/smp_affinity_list" ;;
        poll:*) echo "$root/sys/class/net/${what%%:*}/${what#*:}" ;;
        hugepages:*) echo "$root/sys/kernel/mm/transparent_hugepage/enabled" ;;
        *) return 1 ;;
    esac
}

# Prints the value; fails where this host has no such thing.
now() {
    local file kind interface key
    if file=$(file_of "$1"); then
        [[ -r $file ]] || return 1
        # Of a list to choose from, what is chosen is in brackets.
        sed 's/.*\[\(.*\)\].*/\1/' "$file" 2> /dev/null
        return
    fi
    IFS=: read -r kind interface key <<< "$1"
    case $kind in
        channels) current "$(ethtool -l "$interface" 2> /dev/null)" "$key" ;;
        ring) current "$(ethtool -g "$interface" 2> /dev/null)" "$key" ;;
        hash) hash_fields "$(ethtool -n "$interface" rx-flow-hash "$key" 2> /dev/null)" ;;
        coalesce) coalescing "$(ethtool -c "$interface" 2> /dev/null)" "$key" ;;
        feature) feature "$(ethtool -k "$interface" 2> /dev/null)" "$key" ;;
    esac
}

put() { # id, value
    local file kind interface key
    if file=$(file_of "$1"); then
        { echo "$2" > "$file"; } 2> /dev/null
        return
    fi
    IFS=: read -r kind interface key <<< "$1"
    case $kind in
        channels) ethtool -L "$interface" "$key" "$2" ;;
        ring) ethtool -G "$interface" "$key" "$2" ;;
        hash) ethtool -N "$interface" rx-flow-hash "$key" "$2" > /dev/null ;;
        coalesce) ethtool -C "$interface" "$key" "$2" ;;
        feature) ethtool -K "$interface" "$key" "$2" ;;
    esac
}

# The number after "Key:" below a heading of ethtool -l or -g; nothing for "n/a".
below() { # heading, output, key
    awk -v heading="$1" -v key="$3:" '
        index($0, heading) == 1 { inside = 1; next }
        /:$/ { inside = 0 }
        inside && tolower($1) == key && $2 ~ /^[0-9]+$/ { print $2; found = 1 }
        END { exit !found }' <<< "$2"
}
current() { below "Current hardware settings" "$@"; }
maximum() { below "Pre-set maximums" "$@"; }

# ethtool prints the hashed fields in words and takes them as letters.
hash_fields() {
    local letters=''
    [[ $1 == *"IP SA"* ]] && letters+=s
    [[ $1 == *"IP DA"* ]] && letters+=d
    [[ $1 == *"bytes 0 & 1"* ]] && letters+=f
    [[ $1 == *"bytes 2 & 3"* ]] && letters+=n
    [[ -n $letters ]] && echo "$letters"
}

coalescing() { # output of ethtool -c, key
    awk -v key="$2:" '
        key == "adaptive-rx:" && $1 == "Adaptive" && $2 == "RX:" && $3 != "n/a" { print $3; found = 1 }
        $1 == key && $2 ~ /^[0-9]+$/ { print $2; found = 1 }
        END { exit !found }' <<< "$1"
}

# What is fixed cannot be set: as good as absent.
feature() { # output of ethtool -k, short name
    local -A long=([rxvlan]=rx-vlan-offload [txvlan]=tx-vlan-offload [lro]=large-receive-offload)
    awk -v name="${long[$2]}:" '
        $1 == name && $3 != "[fixed]" { print $2; found = 1 }
        END { exit !found }' <<< "$1"
}

# --- what should be: lines of "id TAB at-least|exactly TAB value TAB why" ------------------------

wanted() {
    local interface profile
    for interface in "${interfaces[@]}"; do
        for profile in "${profiles[@]}"; do wanted_of_card "$interface" "$here/$profile"; done
    done
    awk -v OFS='\t' '
        /^# (at least|exactly): / { how = $2 == "exactly:" ? "exactly" : "at-least"
                                    why = $0; sub(/^[^:]*: /, "", why); next }
        /^[a-z]/ { id = "sysctl:" $1; sub(/^[^=]*= */, ""); print id, how, $0, why }
    ' "$here/backstop.sysctl.conf"
    local cpu
    for cpu in "$root"/sys/devices/system/cpu/cpu[0-9]*; do
        [[ -e $cpu/cpufreq/scaling_governor ]] || continue
        printf 'governor:%s\texactly\tperformance\tclimbing clocks cost the first queries of a burst\n' "${cpu##*/}"
    done
}

wanted_of_card() { # interface, file
    local line kind key value why='' output most
    while read -r line; do
        case $line in
            '') continue ;;
            '#'*) why=${line#\# }; continue ;;
        esac
        read -r kind key value <<< "$line"
        case $kind in
            channels) output=$(ethtool -l "$1" 2> /dev/null) || output='' ;;
            ring) output=$(ethtool -g "$1" 2> /dev/null) || output='' ;;
            irq) wanted_of_interrupts "$1" "$why"; continue ;;
            hugepages) printf 'hugepages:%s\texactly\t%s\t%s\n' "$key" "$value" "$why"; continue ;;
        esac
        if [[ $value == cores ]]; then value=$(nproc); fi
        if [[ $kind == channels || $kind == ring ]] && most=$(maximum "$output" "$key"); then
            value=$(( value < most ? value : most ))
        fi
        printf '%s:%s:%s\texactly\t%s\t%s\n' "$kind" "$1" "$key" "$value" "$why"
    done < "$2"
}

wanted_of_interrupts() { # interface, why
    local folder=$root/sys/class/net/$1/device/msi_irqs queue=0 cores irq
    [[ -d $folder ]] || return 0
    cores=$(nproc)
    while read -r irq; do
        # Interrupts of a card that are not for queues (link state) come first and name no queue.
        grep -qE "^ *$irq:.*(rx|tx|queue|input|comp)" -i "$root/proc/interrupts" || continue
        printf 'irq:%s\texactly\t%s\t%s\n' "$irq" "$((queue++ % cores))" "$2"
    done < <(find "$folder" -mindepth 1 -printf '%f\n' | sort -n)
}

is_good() { # how, value now, value wanted
    local have
    read -r have <<< "$2" || true
    if [[ $1 == at-least && $have =~ ^[0-9]+$ ]]; then (( have >= $3 )); else [[ $have == "$3" ]]; fi
}

# --- the three commands --------------------------------------------------------------------------

# Calls "$1 id how value-now value-wanted why" for each setting that this host has.
each() {
    local lines line id how value why have
    mapfile -t lines < <(wanted)
    for line in "${lines[@]}"; do
        IFS=$'\t' read -r id how value why <<< "$line"
        if have=$(now "$id"); then
            "$1" "$id" "$how" "$have" "$value" "$why"
        else
            echo "  absent  ${id#sysctl:}"
        fi
    done
}

check_one() { # id, how, now, wanted, why
    if is_good "$2" "$3" "$4"; then
        echo "  good    ${1#sysctl:} = $3"
    else
        echo "  CHANGE  ${1#sysctl:} = $3, should be ${2/at-least/at least} $4: $5"
        to_change+=("$1")
    fi
}

apply_one() {
    if is_good "$2" "$3" "$4"; then return; fi
    grep -qs "^$1 " "$state" || echo "$1 $3" >> "$state"
    if put "$1" "$4"; then
        echo "  set     ${1#sysctl:} = $4 (was $3)"
    else
        echo "  FAILED  ${1#sysctl:} stays $3" >&2
        failed=yes
    fi
}

advise() {
    if [[ -e $root/proc/sys/net/netfilter/nf_conntrack_count ]]; then
        echo "  ADVICE  connections are tracked, a lock and an entry per query: exempt port 53 (NOTRACK)"
    fi
    if [[ -z $root ]] && pgrep -x irqbalance > /dev/null; then
        echo "  ADVICE  irqbalance runs: it will move interrupts that are pinned here"
    fi
    if (( ${#interfaces[@]} == 0 )); then
        echo "  ADVICE  network cards are only looked at with --interface IF"
    fi
}

# Says no before anything is changed, rather than half-way.
needs_rights() { # ids ...
    local id file
    for id in "$@"; do
        if file=$(file_of "$id"); then
            [[ -w $file ]] || die "may not write $file: nothing was changed (run it as root, outside a container)"
        elif [[ -z $root && $EUID -ne 0 ]]; then
            die "only root may set up a network card: nothing was changed"
        fi
    done
}

apply() {
    each check_one > /dev/null
    needs_rights "${to_change[@]}"
    mkdir -p "$(dirname "$state")"
    touch "$state" || die "cannot keep former values in $state: nothing was changed"
    each apply_one
    [[ -s $state ]] || rm -f "$state"
    [[ -z $failed ]] || die "some settings failed; \"revert\" undoes the others"
    echo "host.sh: done; \"host.sh revert --state $state\" puts everything back"
}

revert() {
    [[ -e $state ]] || { echo "host.sh: nothing to put back: no $state"; return; }
    local lines line ids=() left=()
    # Last set, first restored: interrupts belong to the queues that were made before them.
    mapfile -t lines < <(tac "$state")
    for line in "${lines[@]}"; do ids+=("${line%% *}"); done
    needs_rights "${ids[@]}"
    for line in "${lines[@]}"; do
        if [[ $(now "${line%% *}") == "${line#* }" ]] || put "${line%% *}" "${line#* }"; then
            echo "  restored ${line%% *} = ${line#* }"
        else
            left=("$line" "${left[@]}")
        fi
    done
    if (( ${#left[@]} > 0 )); then
        printf '%s\n' "${left[@]}" > "$state"
        die "could not put back: ${left[*]%% *}; still noted in $state"
    fi
    rm -f "$state"
}

command=${1:-}
[[ $# -gt 0 ]] && shift
while (( $# > 0 )); do
    case $1 in
        --xdp | --busy-poll) profiles+=("nic-${1#--}.conf"); shift; continue ;;
        --interface) [[ ${2:-} =~ ^[A-Za-z0-9._-]+$ ]] || usage 2 >&2; interfaces+=("$2") ;;
        --state) state=${2:-}; [[ -n $state ]] || usage 2 >&2 ;;
        *) usage 2 >&2 ;;
    esac
    shift 2
done
to_change=() failed=''
if (( ${#interfaces[@]} > 0 )) && ! command -v ethtool > /dev/null; then
    die "network cards need ethtool"
fi
case $command in
    check) each check_one; advise; (( ${#to_change[@]} == 0 )) ;;
    apply) apply ;;
    revert) revert ;;
    *) usage 2 >&2 ;;
esac
