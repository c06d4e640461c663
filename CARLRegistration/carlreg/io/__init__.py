"""Files' headers and bytes, one place for each; SimpleITK and NumPy, never torch.

being_read       which file is being read, for who must explain a crash
checks           paths and kinds of images, and the errors they raise
guarded          a reader in a child process, with limits of time and memory
nifti_header     fields of NIfTI-1 headers: read, made
nifti_geometry   where a NIfTI file's voxels lie, and what its header says against itself
raw              bytes of voxels out of files, plain and packed
nifti_writing    .nii.gz, fast and in parts
writing          images and transforms by SimpleITK, read again to be sure that they are whole
endings          endings of names that can be written
nifti_field      displacement fields as NIfTI
itk_file         ITK's transform files as what they say: kinds and numbers
itk_kinds        what the numbers of each kind mean, in closed form
hdf5             the part of HDF5 that ITK's files use, in plain Python
itk_transform    ITK's transforms: made of what a file says and checked, as matrices, on points and grids
numbers          rows of numbers in text, and how large one may be
points           landmark pairs, tables of points, 3D Slicer's markups
"""
