package main

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// readStream decodes a streamOptimized VMDK by its grain markers, and checks that footer, grain directory and tables
// name the same grains.
func readStream(t *testing.T, stream []byte) []byte {
	t.Helper()
	little := binary.LittleEndian
	disk := make([]byte, little.Uint64(stream[12:])*sectorBytes)
	grains := map[uint32]int{}
	for at := overheadSectors * sectorBytes; ; {
		value, size := little.Uint64(stream[at:]), little.Uint32(stream[at+8:])
		if size == 0 {
			kind := little.Uint32(stream[at+12:])
			at += sectorBytes * (1 + int(value))
			if kind == markerEndOfStream {
				if at != len(stream) {
					t.Fatalf("%d bytes after the end-of-stream marker", len(stream)-at)
				}
				break
			}
			continue
		}
		inflated, err := zlib.NewReader(bytes.NewReader(stream[at+12 : at+12+int(size)]))
		if err != nil {
			t.Fatal(err)
		}
		grain, err := io.ReadAll(inflated)
		if err != nil || len(grain) != grainBytes {
			t.Fatalf("a grain of %d bytes, %v", len(grain), err)
		}
		copy(disk[value*sectorBytes:], grain)
		grains[uint32(at/sectorBytes)] = int(value / grainSectors)
		at += (12 + int(size) + sectorBytes - 1) / sectorBytes * sectorBytes
	}
	footer := stream[len(stream)-2*sectorBytes:]
	directory := stream[little.Uint64(footer[56:])*sectorBytes:]
	listed := 0
	for table := range (len(disk)/grainBytes + tableEntries) / tableEntries {
		start := int(little.Uint32(directory[table*4:])) * sectorBytes
		for entry := 0; start > 0 && entry < tableEntries; entry++ {
			if sector := little.Uint32(stream[start+entry*4:]); sector != 0 {
				listed++
				if grains[sector] != table*tableEntries+entry {
					t.Fatalf("table %d, entry %d: grain %d", table, entry, grains[sector])
				}
			}
		}
	}
	if listed != len(grains) {
		t.Fatalf("the tables list %d of %d grains", listed, len(grains))
	}
	return disk
}

// scattered makes a disk whose data lies in holes: across a grain's border, in a later table, in its last bytes.
func scattered(t *testing.T, capacity int64) *os.File {
	t.Helper()
	disk, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = disk.Close() })
	if err := disk.Truncate(capacity); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{0, grainBytes - 10, 20*grainBytes + 5000, 3 * tableEntries * grainBytes, capacity - 700} {
		if offset+700 <= capacity {
			if _, err := io.CopyN(io.NewOffsetWriter(disk, offset), &noise{seed: "s"}, 700); err != nil {
				t.Fatal(err)
			}
		}
	}
	return disk
}

func TestStreamHoldsTheDisk(t *testing.T) {
	for _, capacity := range []int64{1024, grainBytes, 2*grainBytes + 3072, 130 << 20, tableEntries * grainBytes} {
		disk := scattered(t, capacity)
		var stream bytes.Buffer
		if err := writeStream(&stream, disk, capacity, "disk.vmdk"); err != nil {
			t.Fatal(err)
		}
		expected, _ := os.ReadFile(disk.Name())
		if !bytes.Equal(readStream(t, stream.Bytes()), expected) {
			t.Errorf("%d bytes: another content", capacity)
		}
		if stream.Len() > 1<<20 {
			t.Errorf("%d bytes: holes were sent", stream.Len())
		}
	}
}

func TestQemuReadsTheStream(t *testing.T) {
	qemu, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Skip("qemu-img is not installed; deploy/dev/setup installs it")
	}
	const capacity = 130<<20 + 3*1024
	disk := scattered(t, capacity)
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	var stream bytes.Buffer
	if err := writeStream(&stream, disk, capacity, "disk.vmdk"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, stream.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, arguments := range [][]string{
		{"check", "-f", "vmdk", path}, {"compare", "-f", "raw", "-F", "vmdk", disk.Name(), path},
		{"convert", "-f", "vmdk", "-O", "raw", path, path + ".raw"},
	} {
		if output, err := exec.Command(qemu, arguments...).CombinedOutput(); err != nil {
			t.Errorf("qemu-img %v: %s, %v", arguments, output, err)
		}
	}
}
