package main

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// A streamOptimized VMDK, after VMware's Virtual Disk Format 5.0 ("Stream-Optimized Compressed Sparse Extents"):
// header and descriptor, then grains, each with a marker in front, each grain table behind its grains, at last the
// grain directory, a footer that says where that is, and the end-of-stream marker.
const (
	grainBytes        = 64 << 10
	grainSectors      = grainBytes / sectorBytes
	tableEntries      = 512
	descriptorSectors = 20
	overheadSectors   = 128
	directoryAtEnd    = ^uint64(0)

	markerEndOfStream = 0
	markerTable       = 1
	markerDirectory   = 2
	markerFooter      = 3
)

// sparseHeader is the SparseExtentHeader of the specification, packed and little-endian.
type sparseHeader struct {
	Magic            [4]byte
	Version          uint32
	Flags            uint32
	Capacity         uint64
	GrainSize        uint64
	DescriptorOffset uint64
	DescriptorSize   uint64
	EntriesPerTable  uint32
	SpareDirectory   uint64
	Directory        uint64
	Overhead         uint64
	Unclean          uint8
	LineEnds         [4]byte
	Compression      uint16
	_                [433]byte
}

// streamWriter writes one disk as a stream, and counts its sectors.
type streamWriter struct {
	to         *bufio.Writer
	sector     uint64
	header     sparseHeader
	directory  []uint32
	table      []uint32 // of the grains of number tableNumber
	number     int
	compressor *zlib.Writer
	compressed bytes.Buffer
}

// writeStream sends a raw disk as a streamOptimized VMDK. Holes are not read, and grains of zeroes are not sent.
func writeStream(to io.Writer, source *os.File, capacityBytes int64, extent string) error {
	w := &streamWriter{to: bufio.NewWriterSize(to, chunkBytes), number: -1}
	w.compressor, _ = zlib.NewWriterLevel(&w.compressed, zlib.BestSpeed) // the level is a valid one
	grains := (capacityBytes + grainBytes - 1) / grainBytes
	w.directory = make([]uint32, (grains+tableEntries-1)/tableEntries)
	w.header = sparseHeader{
		Magic: [4]byte{'K', 'D', 'M', 'V'}, Version: 3, Flags: 1 | 1<<16 | 1<<17, // line ends are checked; compressed; markers
		Capacity: uint64(capacityBytes / sectorBytes), GrainSize: grainSectors, DescriptorOffset: 1,
		DescriptorSize: descriptorSectors, EntriesPerTable: tableEntries, Directory: directoryAtEnd,
		Overhead: overheadSectors, LineEnds: [4]byte{'\n', ' ', '\r', '\n'}, Compression: 1,
	}
	if err := w.begin(extent); err != nil {
		return err
	}
	grain := make([]byte, grainBytes)
	for start := int64(0); start < capacityBytes; {
		data, end, err := nextData(source, start, capacityBytes)
		if err != nil {
			return err
		}
		for number := data / grainBytes; number*grainBytes < end; number++ {
			if err := w.readGrain(source, grain, number, capacityBytes); err != nil {
				return err
			}
			start = (number + 1) * grainBytes
		}
		if data == end {
			break
		}
	}
	return w.finish()
}

// readGrain reads one grain, the last one padded with zeroes, and sends it unless it is empty.
func (w *streamWriter) readGrain(source *os.File, grain []byte, number, capacityBytes int64) error {
	size := min(grainBytes, capacityBytes-number*grainBytes)
	if _, err := source.ReadAt(grain[:size], number*grainBytes); err != nil {
		return err
	}
	clear(grain[size:])
	if grain[0] == 0 && bytes.Equal(grain[1:], grain[:len(grain)-1]) {
		return nil
	}
	return w.writeGrain(grain, int(number))
}

func (w *streamWriter) writeGrain(grain []byte, number int) error {
	if number/tableEntries != w.number {
		if err := w.endTable(); err != nil {
			return err
		}
		w.number, w.table = number/tableEntries, make([]uint32, tableEntries)
	}
	w.compressed.Reset()
	w.compressor.Reset(&w.compressed)
	if _, err := w.compressor.Write(grain); err != nil {
		return err
	}
	if err := w.compressor.Close(); err != nil {
		return err
	}
	w.table[number%tableEntries] = uint32(w.sector)
	var marker [12]byte // its first sector's address on the disk, and the size of the compressed bytes that follow
	binary.LittleEndian.PutUint64(marker[:], uint64(number)*grainSectors)
	binary.LittleEndian.PutUint32(marker[8:], uint32(w.compressed.Len()))
	return w.sectors(marker[:], w.compressed.Bytes())
}

// begin writes the header, the descriptor, and zeroes up to the first grain.
func (w *streamWriter) begin(extent string) error {
	descriptor := fmt.Sprintf("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"+
		"createType=\"streamOptimized\"\n\n# Extent description\nRW %d SPARSE \"%s\"\n\n# The Disk Data Base\n#DDB\n\n"+
		"ddb.adapterType = \"lsilogic\"\nddb.geometry.cylinders = \"%d\"\nddb.geometry.heads = \"255\"\n"+
		"ddb.geometry.sectors = \"63\"\nddb.virtualHWVersion = \"19\"\n",
		w.header.Capacity, extent, w.header.Capacity/(255*63))
	space := make([]byte, (overheadSectors-1)*sectorBytes)
	copy(space, descriptor)
	return w.structure(w.header, space)
}

// endTable writes the grain table that is open.
func (w *streamWriter) endTable() error {
	if w.table == nil {
		return nil
	}
	if err := w.marker(markerTable, tableEntries*4/sectorBytes); err != nil {
		return err
	}
	w.directory[w.number] = uint32(w.sector)
	err := w.structure(w.table)
	w.table = nil
	return err
}

func (w *streamWriter) finish() error {
	if err := w.endTable(); err != nil {
		return err
	}
	if err := w.marker(markerDirectory, (len(w.directory)*4+sectorBytes-1)/sectorBytes); err != nil {
		return err
	}
	w.header.Directory = w.sector
	if err := w.structure(w.directory); err != nil {
		return err
	}
	if err := w.marker(markerFooter, 1); err != nil {
		return err
	}
	if err := w.structure(w.header); err != nil {
		return err
	}
	if err := w.marker(markerEndOfStream, 0); err != nil {
		return err
	}
	return w.to.Flush()
}

// marker announces metadata of so many sectors: their number, a size of 0, the kind.
func (w *streamWriter) marker(kind uint32, sectors int) error {
	var marker [sectorBytes]byte
	binary.LittleEndian.PutUint64(marker[:], uint64(sectors))
	binary.LittleEndian.PutUint32(marker[12:], kind)
	return w.sectors(marker[:])
}

// structure writes little-endian values one after the other.
func (w *streamWriter) structure(values ...any) error {
	var encoded bytes.Buffer
	for _, value := range values {
		if err := binary.Write(&encoded, binary.LittleEndian, value); err != nil {
			return err
		}
	}
	return w.sectors(encoded.Bytes())
}

// sectors writes pieces one after the other and fills the last sector with zeroes.
func (w *streamWriter) sectors(pieces ...[]byte) error {
	size := 0
	for _, piece := range pieces {
		if _, err := w.to.Write(piece); err != nil {
			return err
		}
		size += len(piece)
	}
	padding := (sectorBytes - size%sectorBytes) % sectorBytes
	w.sector += uint64((size + padding) / sectorBytes)
	_, err := w.to.Write(make([]byte, padding))
	return err
}
