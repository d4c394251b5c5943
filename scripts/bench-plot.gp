# SPDX-License-Identifier: GPL-2.0
#
# Plots one case of the benchmark; scripts/bench-report calls it. Arguments:
# svg or png, data file, output file, title, names of both axes, name of the
# reference, number of kernels. The data has a block for each kernel.

if (ARG1 eq "svg") {
	set terminal svg size 720,480 enhanced font "sans,13" background "white"
} else {
	set terminal pngcairo size 1080,720 font "sans,16" background "white"
}
set output ARG3
set title ARG4 noenhanced
set xlabel ARG5
set ylabel ARG6
set logscale xy
set xtics add autofreq
set format y "%.0s%c"
set grid
set key top left noenhanced
kernels = int(ARG8)
plot for [i=0:kernels-1] ARG2 index i using 1:2 skip 0 with linespoints \
	lt i+1 lw 2 pt 7 title sprintf("cowpool, %s", columnheader(1)), \
     for [i=0:kernels-1] ARG2 index i using 1:3 with linespoints \
	lt i+1 lw 2 dt 2 pt 6 title sprintf("%s, %s", ARG7, columnheader(1))
