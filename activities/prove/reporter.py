"""What is put into the guest's throw-away overlay: a unit and a shell script that report over a port.

The script is POSIX sh and uses nothing but systemctl, ip, cat, sleep and readlink, so that it runs on any
guest with systemd. It starts before sysinit.target and survives isolation, so it also speaks from
emergency mode. It decides nothing: it tells, again and again, and the host judges.
"""

PORT_NAME = "org.hyperctl.proof.0"
FOLDER = "/etc/hyperctl-proof"
SCRIPT_PATH = f"{FOLDER}/report.sh"
UNIT_NAME = "hyperctl-proof.service"
UNIT_FOLDER = "/etc/systemd/system"
WANTED_BY = ("sysinit.target", "emergency.target", "rescue.target")
WAIT_FOR_NETWORK = ("systemd-networkd-wait-online.service", "NetworkManager-wait-online.service")

UNIT = f"""\
[Unit]
Description=Boot proof: report the state of this system
DefaultDependencies=no
IgnoreOnIsolate=yes

[Service]
Type=simple
ExecStart=/bin/sh {SCRIPT_PATH}
StandardInput=null
StandardOutput=null
StandardError=null
KillMode=process
Restart=no
"""

SCRIPT = r"""#!/bin/sh
# Reports the state of this system to the host that boots it for a trial. Not part of the guest.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
LC_ALL=C
export LC_ALL
unset SYSTEMD_COLORS

port=
tries=0
while [ -z "$port" ] && [ "$tries" -lt 150 ]; do
    for name in /sys/class/virtio-ports/*/name; do
        [ -r "$name" ] || continue
        read -r value < "$name"
        if [ "$value" = "org.hyperctl.proof.0" ]; then
            folder=${name%/name}
            [ -c "/dev/${folder##*/}" ] && port=/dev/${folder##*/}
        fi
    done
    if [ -z "$port" ] && [ -r /sys/class/tty/ttyS1/type ]; then
        # A second serial port (0: there is none) is the way of a guest that has no virtio.
        read -r value < /sys/class/tty/ttyS1/type
        [ "$value" != 0 ] && [ -c /dev/ttyS1 ] && port=/dev/ttyS1
        [ -n "$port" ] && stty -F "$port" raw -echo 2>/dev/null
    fi
    [ -n "$port" ] && break
    [ "$tries" -eq 10 ] && modprobe virtio_console 2>/dev/null
    tries=$((tries + 1))
    sleep 1
done
[ -n "$port" ] || exit 0
exec 3> "$port" || exit 0

section() { echo "@ $1"; }

links() {
    for folder in /sys/class/net/*; do
        name=${folder##*/}
        address=; master=; physical=0; permanent=; lower=
        [ -r "$folder/address" ] && read -r address < "$folder/address"
        [ -e "$folder/device" ] && physical=1
        [ -r "$folder/bonding_slave/perm_hwaddr" ] && read -r permanent < "$folder/bonding_slave/perm_hwaddr"
        for below in "$folder"/lower_*; do
            [ -e "$below" ] && lower="$lower,${below##*/lower_}"
        done
        echo "$name|$address|$permanent|$physical|${lower#,}"
    done
}

names() {
    for link in /dev/disk/by-uuid/* /dev/disk/by-label/* /dev/disk/by-partuuid/* /dev/disk/by-partlabel/* \
        /dev/disk/by-id/* /dev/disk/by-path/* /dev/mapper/*; do
        [ -L "$link" ] && echo "$link $(readlink -f "$link")"
    done
}

failed_mounts() {
    systemctl --failed --plain --no-legend --no-pager --full --type=mount list-units 2>/dev/null |
        while read -r unit rest; do
            # Without --value, which systemd has since 230.
            echo "$unit" $(systemctl show -p Type -p What "$unit")
        done
}

followed() {
    # Mount points that lie behind a link: the kernel shows where they are.
    while read -r source target rest || [ -n "$source" ]; do
        # What would be mounted by a look at it is left alone.
        case "$source $target $rest" in
            '#'*|*automount*|*_netdev*|*nfs*|*cifs*|*:/*|'//'*) continue ;;
        esac
        case $target in /*) ;; *) continue ;; esac
        there=$(readlink -f "$target")
        [ -n "$there" ] && [ "$there" != "${target%/}" ] && echo "${target%/} $there"
    done < /etc/fstab
}

network_files() {
    for file in /etc/network/interfaces /etc/network/interfaces.d/* /etc/netplan/*.y*ml /etc/dhcpcd.conf \
        /etc/systemd/network/* /etc/systemd/network/*.d/* /run/systemd/network/* \
        /etc/NetworkManager/system-connections/* /run/NetworkManager/system-connections/* \
        /etc/sysconfig/network-scripts/ifcfg-* /etc/sysconfig/network/ifcfg-*; do
        [ -f "$file" ] && echo "$file"
    done
}

network_lines() {
    network_files | while read -r file; do
        while read -r line || [ -n "$line" ]; do
            case $line in '#'*) continue ;; esac
            case $line in
                *inet*dhcp*|*inet6*auto*|BOOTPROTO=*dhcp*|method=auto*) echo "dynamic $line" ;;
                DHCP*=*no*|DHCP*=*false*) ;;
                DHCP=*|DHCP\ *=*|DHCPV6C=*) echo "dynamic $line" ;;
                dhcp[46]:*true*|dhcp[46]:*yes*|dhcp[46]:*on*) echo "dynamic $line" ;;
                *dhcp[46]:\ true*|*dhcp[46]:\ yes*|*dhcp[46]:true*) echo "dynamic $line" ;;
            esac
            case $line in
                *[0-9].[0-9]*.[0-9]*|*[0-9a-f]:*:*) echo "static $line" ;;
            esac
        done < "$file"
    done
    # Both ask for addresses of their own accord.
    [ "$(systemctl is-active dhcpcd.service 2>/dev/null)" = active ] && echo "dynamic dhcpcd.service"
    if [ "$(systemctl is-active NetworkManager.service 2>/dev/null)" = active ]; then
        case $(network_files) in
            */system-connections/*|*/ifcfg-e*) ;;
            *) echo "dynamic NetworkManager without a profile" ;;
        esac
    fi
}

sockets() {
    # Listening ones: TCP's state 0A; of UDP those without a peer, 07.
    for table in tcp tcp6 udp udp6; do
        [ -r "/proc/net/$table" ] || continue
        while read -r number own peer state rest; do
            case $table$state in
                tcp0A|tcp60A|udp07|udp607) echo "$table $own" ;;
            esac
        done < "/proc/net/$table"
    done
}

report() {
    echo "HYPERCTL-PROOF-BEGIN $1"
    section state; systemctl is-system-running 2>/dev/null
    section units; echo "$states"
    section failed; systemctl --failed --plain --no-legend --no-pager --full list-units 2>/dev/null
    section jobs; systemctl --no-legend --no-pager --full list-jobs 2>/dev/null
    section kernel; cat /proc/sys/kernel/osrelease
    section uptime; cat /proc/uptime
    section clock; date -u +%s
    if [ "$1" = full ]; then
        section network-mounts; failed_mounts
        section mounts; cat /proc/1/mounts
        section fstab; cat /etc/fstab
        section links-to; followed
        section swaps; cat /proc/swaps
        section names; names
        section links; links
        section permanent; ip -o link show 2>/dev/null
        section addresses; ip -o addr show 2>/dev/null
        section routes; ip route show 2>/dev/null; ip -6 route show 2>/dev/null
        section sockets; sockets
        section network; network_lines
    fi
    echo "HYPERCTL-PROOF-END"
}

targets="multi-user.target graphical.target emergency.target rescue.target"
round=0
while :; do
    states=$(systemctl is-active $targets 2>/dev/null)
    arrived=no
    for state in $states; do
        [ "$state" = active ] && arrived=yes
    done
    if [ "$arrived" = yes ]; then
        report full >&3
        sleep 3
    else
        [ $((round % 10)) -eq 0 ] && report waiting >&3
        sleep 2
    fi
    round=$((round + 1))
done
"""
